//! cert-manager over time: Certificates that are issued again, and the Secrets as they stand.
//!
//! As cert-manager 1.21 does it: a Secret is written with the issuer's present key and root at the moment of issue and with nothing else
//! ever, so renewing a CA re-issues no leaf and refreshes no other Secret's `ca.crt`, and a CA with a new key signs leaves that the old
//! `ca.crt` doesn't verify. What it would do by itself (renewal at its time, mending a Secret whose certificate and key don't belong together)
//! is left out: here it issues only when told to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::certified_key::{CertifiedKey, Signer};
use super::error::{InvalidCause, IssueCause, PkiError};
use super::identity::GARBAGE;
use super::key::Key;
use super::secret::Secret;
use super::template::Overrides;
use super::variant;
use deployment::Manifests;
use deployment::certificate::{Certificate, CertificateSpec, IssuerKind};
use model::change::{Content, CrlOf, Label, Overwrite, Reissue};
use model::credential::{SecretFile, Validity};

/// cert-manager with the Certificates and Secrets of one installation. Names that it doesn't know give an error with those that it knows.
///
/// A Certificate's present certificate is named `NAME`, those issued so far `NAME@1`, `NAME@2` and so on.
#[derive(Debug)]
pub struct CertManager {
    manifests: Arc<Manifests>,
    certificates: BTreeMap<String, Managed>,
    secrets: BTreeMap<String, Secret>,
    /// The version of the Secret that was changed last.
    version: u64,
}

/// A Certificate as it stands.
#[derive(Debug)]
struct Managed {
    /// Its `spec` with the patches so far.
    spec: CertificateSpec,
    /// Everything that was issued, oldest first.
    issued: Vec<Arc<CertifiedKey>>,
}

impl CertManager {
    /// Issues every Certificate of the manifests.
    ///
    /// # Errors
    /// [`PkiError`] for the first that can't be issued.
    pub fn new(manifests: &Arc<Manifests>) -> Result<Self, PkiError> {
        let managed = |spec: &CertificateSpec| Managed { spec: spec.clone(), issued: Vec::new() };
        let certificates =
            manifests.certificates.iter().map(|certificate| (certificate.name.clone(), managed(&certificate.spec))).collect();
        let by_hand = |certificate: &Certificate| {
            let secret = Secret::by_hand(manifests.secret_before(certificate)?.labels.clone());
            Some((certificate.spec.secret_name.clone(), secret))
        };
        let secrets = manifests.certificates.iter().filter_map(by_hand).collect();
        let mut cert_manager = Self { manifests: Arc::clone(manifests), certificates, secrets, version: 0 };
        for certificate in &manifests.certificates {
            cert_manager.issue_first(&certificate.name)?;
        }
        Ok(cert_manager)
    }

    /// The manifests that it began with.
    #[must_use]
    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }

    /// A Secret as it stands.
    ///
    /// # Errors
    /// [`PkiError::Unknown`].
    pub fn secret(&self, name: &str) -> Result<&Secret, PkiError> {
        self.secrets.get(name).ok_or_else(|| self.unknown_secret(name))
    }

    /// The names of the Secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// The Secret that a Certificate writes.
    ///
    /// # Errors
    /// [`PkiError::Unknown`].
    pub fn secret_of(&self, certificate: &str) -> Result<&str, PkiError> {
        Ok(&self.managed(certificate)?.spec.secret_name)
    }

    /// Issues a Certificate again for the key that it has: a new serial number and validity.
    ///
    /// # Errors
    /// [`PkiError`]: an unknown name, a patch that doesn't fit or asks for another key, a validity that is none. Then nothing has changed.
    pub fn renew(&mut self, reissue: &Reissue<String>) -> Result<(), PkiError> {
        let managed = self.managed(&reissue.certificate)?;
        let key = managed.present(&reissue.certificate)?.key.clone();
        let what = format!("Certificate `{}`", reissue.certificate);
        let spec = self.patched(&what, reissue)?;
        // Neither can be without the other: cert-manager writes `tls.key` anew from what privateKey says.
        if spec.private_key.clone().unwrap_or_default() != self.managed(&reissue.certificate)?.spec.private_key.clone().unwrap_or_default()
        {
            return Err(PkiError::invalid(what, InvalidCause::PatchedKey));
        }
        self.issue(&reissue.certificate, spec, reissue.validity.as_ref(), Some(key))
    }

    /// Issues a Certificate again with a new key: what rotationPolicy Always, the default, does at every renewal.
    ///
    /// # Errors
    /// As [`CertManager::renew`].
    pub fn rekey(&mut self, reissue: &Reissue<String>) -> Result<(), PkiError> {
        let spec = self.patched(&format!("Certificate `{}`", reissue.certificate), reissue)?;
        self.issue(&reissue.certificate, spec, reissue.validity.as_ref(), None)
    }

    /// Somebody deletes a Secret: its Certificate is issued at once, with a new key, and labels that were set by hand are gone.
    ///
    /// # Errors
    /// [`PkiError`].
    pub fn delete_secret(&mut self, name: &str) -> Result<(), PkiError> {
        self.secret(name)?;
        let owner = self.certificates.iter().find(|(_, managed)| managed.spec.secret_name == name);
        let (certificate, spec) =
            owner.map(|(certificate, managed)| (certificate.clone(), managed.spec.clone())).ok_or_else(|| self.unknown_secret(name))?;
        let deleted = self.secrets.remove(name);
        let issued = self.issue(&certificate, spec, None, None);
        if let (Err(_), Some(deleted)) = (&issued, deleted) {
            self.secrets.insert(name.to_owned(), deleted);
        }
        issued
    }

    /// Somebody writes one key of a Secret. It stays until its Certificate is issued again.
    ///
    /// # Errors
    /// [`PkiError`]: an unknown name, or a Secret to copy from that has no such key.
    pub fn overwrite(&mut self, overwrite: &Overwrite<String>) -> Result<(), PkiError> {
        let Overwrite { secret, key, with } = overwrite;
        self.secret(secret)?;
        let content = match with {
            Content::Certificates(names) if names.is_empty() => {
                return Err(PkiError::invalid(format!("Secret `{secret}`"), InvalidCause::NoCertificates));
            }
            Content::Certificates(names) => {
                // A server presents its chain; a bundle of CAs holds just these.
                let with_intermediates = *key == SecretFile::Certificate;
                let certificates = names.iter().map(|name| Ok(self.issued(name)?.certificate_pem(with_intermediates)));
                Some(certificates.collect::<Result<String, PkiError>>()?)
            }
            Content::Secret(other) => {
                let content = self.secret(other)?.content(*key).map(str::to_owned);
                Some(content.ok_or_else(|| PkiError::invalid(format!("Secret `{other}`"), InvalidCause::NoContent(*key)))?)
            }
            Content::Garbage => Some(GARBAGE.to_owned()),
            Content::Removed => None,
        };
        let (secret, version) = self.change(secret)?;
        secret.write(*key, content, version);
        Ok(())
    }

    /// Somebody sets or drops a label of a Secret. One of the Certificate's `secretTemplate` comes back when it is issued again.
    ///
    /// # Errors
    /// [`PkiError::Unknown`].
    pub fn label(&mut self, label: &Label<String>) -> Result<(), PkiError> {
        let (secret, version) = self.change(&label.secret)?;
        secret.label(&label.label, label.value.as_deref(), version);
        Ok(())
    }

    /// A revocation list, in PEM.
    ///
    /// # Errors
    /// [`PkiError`]: an unknown name, an issuer that is no CA, a validity that is none.
    pub fn crl(&self, crl: &CrlOf<String>) -> Result<String, PkiError> {
        let what = format!("CRL of `{}`", crl.issuer);
        let issuer = self.issued(&crl.issuer)?;
        if !issuer.is_ca {
            return Err(PkiError::invalid(what, InvalidCause::NoCa(crl.issuer.clone())));
        }
        let serials = crl.revoked.iter().map(|name| Ok(self.issued(name)?.serial)).collect::<Result<Vec<_>, PkiError>>()?;
        issuer.revoke(&what, &serials, &crl.validity)
    }

    /// SHA-256 of a certificate, in lower-case hex.
    ///
    /// # Errors
    /// [`PkiError::Unknown`].
    pub fn sha256(&self, name: &str) -> Result<String, PkiError> {
        Ok(self.issued(name)?.sha256())
    }

    /// The first moment at which a certificate is no longer valid for anybody. X.509 counts whole seconds, and what was asked for is cut off
    /// to them: this is at most a second after it. OpenSSL refuses it a second earlier than webpki, and than this.
    ///
    /// # Errors
    /// [`PkiError::Unknown`].
    pub fn end(&self, name: &str) -> Result<SystemTime, PkiError> {
        Ok(self.issued(name)?.end())
    }

    fn managed(&self, name: &str) -> Result<&Managed, PkiError> {
        let known = || self.certificates.keys().map(String::as_str);
        self.certificates.get(name).ok_or_else(|| PkiError::unknown("Certificate", name, known()))
    }

    /// What `NAME` or `NAME@2` is now.
    fn issued(&self, name: &str) -> Result<&Arc<CertifiedKey>, PkiError> {
        let Some((certificate, number)) = name.split_once('@') else { return self.managed(name)?.present(name) };
        let issued = &self.managed(certificate)?.issued;
        let place = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        place.and_then(|place| issued.get(place)).ok_or_else(|| {
            let known: Vec<String> = (1..=issued.len()).map(|number| format!("{certificate}@{number}")).collect();
            PkiError::unknown("issue of the Certificate", name, known.iter().map(String::as_str))
        })
    }

    fn unknown_secret(&self, name: &str) -> PkiError {
        PkiError::unknown("Secret", name, self.secrets())
    }

    /// A Secret that is about to change, and its version afterwards.
    fn change(&mut self, name: &str) -> Result<(&mut Secret, u64), PkiError> {
        if !self.secrets.contains_key(name) {
            return Err(self.unknown_secret(name));
        }
        self.version += 1;
        Ok((self.secrets.entry(name.to_owned()).or_default(), self.version))
    }

    /// The `spec` that a Certificate is to be issued with.
    fn patched(&self, what: &str, reissue: &Reissue<String>) -> Result<CertificateSpec, PkiError> {
        let now = &self.managed(&reissue.certificate)?.spec;
        let spec = variant::patched(what, &reissue.certificate, now, reissue.patch.as_ref())?;
        if spec.secret_name != now.secret_name {
            return Err(PkiError::invalid(what, InvalidCause::PatchedSecretName));
        }
        Ok(spec)
    }

    /// The Certificate whose present key signs this one; `None` where that is its own.
    fn signing_certificate(&self, what: &str, spec: &CertificateSpec) -> Result<Option<String>, PkiError> {
        match &variant::issuer(&self.manifests, what, &spec.issuer_ref)?.kind {
            IssuerKind::SelfSigned => Ok(None),
            IssuerKind::Ca { secret } => {
                let owner = self.certificates.iter().find(|(_, managed)| managed.spec.secret_name == *secret);
                owner.map(|(name, _)| Some(name.clone())).ok_or_else(|| self.unknown_secret(secret))
            }
        }
    }

    /// Issues a Certificate for the first time, those above it first. Manifests have no circles.
    fn issue_first(&mut self, name: &str) -> Result<(), PkiError> {
        let managed = self.managed(name)?;
        if !managed.issued.is_empty() {
            return Ok(());
        }
        let spec = managed.spec.clone();
        if let Some(above) = self.signing_certificate(&format!("Certificate `{name}`"), &spec)? {
            self.issue_first(&above)?;
        }
        self.issue(name, spec, None, None)
    }

    /// Issues a Certificate and writes its Secret; for a new key if none is given.
    fn issue(&mut self, name: &str, spec: CertificateSpec, validity: Option<&Validity>, key: Option<Arc<Key>>) -> Result<(), PkiError> {
        let what = format!("Certificate `{name}`");
        let signer = match self.signing_certificate(&what, &spec)? {
            None => Signer::Itself,
            Some(authority) => Signer::Authority(self.authority(&what, &authority)?),
        };
        let overrides = Overrides { validity, ..Overrides::default() };
        let certified_key = match key {
            Some(key) => CertifiedKey::issue_for(key, &what, &spec, overrides, &signer)?,
            None => CertifiedKey::issue(&what, &spec, overrides, &signer)?,
        };
        let template = spec.secret_template.clone().unwrap_or_default().labels;
        self.version += 1;
        self.secrets.entry(spec.secret_name.clone()).or_default().issue(secret_data(&certified_key), &template, self.version);
        if let Some(managed) = self.certificates.get_mut(name) {
            managed.spec = spec;
            managed.issued.push(Arc::new(certified_key));
        }
        Ok(())
    }

    /// A CA as it stands in its Secret, which is what an Issuer signs with.
    fn authority(&self, what: &str, authority: &str) -> Result<Arc<CertifiedKey>, PkiError> {
        let managed = self.managed(authority)?;
        let certified_key = managed.present(authority)?;
        if self.secret(&managed.spec.secret_name)?.data() != &secret_data(certified_key) {
            return Err(PkiError::invalid(what, InvalidCause::IssuerOverwritten(managed.spec.secret_name.clone())));
        }
        Ok(Arc::clone(certified_key))
    }
}

impl Managed {
    fn present(&self, name: &str) -> Result<&Arc<CertifiedKey>, PkiError> {
        self.issued.last().ok_or_else(|| PkiError::issue(&format!("Certificate `{name}`"), IssueCause::NotYet))
    }
}

/// What cert-manager writes into a Secret.
fn secret_data(certified_key: &CertifiedKey) -> BTreeMap<SecretFile, String> {
    [
        (SecretFile::Certificate, certified_key.certificate_pem(true)),
        (SecretFile::Key, certified_key.key.pem.clone()),
        (SecretFile::Ca, certified_key.ca_pem()),
    ]
    .into()
}
