//! Certificates as cert-manager 1.21 would issue them from the manifests, and the faulty variants that scenarios name.
//!
//! [`Pki`] issues everything at its first use, once, and keeps it as files below one directory: for cases, which only read.
//! [`CertManager`] is cert-manager over time: it issues again, and holds the Secrets as they stand. What cert-manager does is not always what one
//! would guess: a Certificate without `usages` has no extended key usage; `usages: [client auth]` has no key usage; the common name is
//! no subject alternative name; `tls.crt` leaves out the root; `ca.crt` of `mtls-ca-cert` is the root, not that certificate.

mod cert_manager;
mod certified_key;
mod check;
mod der;
mod distribution;
mod error;
mod file_users;
mod identity;
mod key;
mod memo;
mod secret;
pub mod site;
mod template;
mod variant;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

pub use cert_manager::CertManager;
pub use check::{CredentialProblem, check};
pub use error::{InvalidCause, IssueCause, PkiError};
pub use file_users::FileUsers;
pub use identity::IssuedIdentity;
pub use secret::Secret;

use certified_key::{CertifiedKey, Signer};
use deployment::Manifests;
use deployment::certificate::{Certificate, Issuer, IssuerKind};
use identity::FileVariant;
use memo::Memo;
use model::credential::{Credentials, Identity, SecretFile, Trust};
use template::Overrides;
use variant::{ITSELF, Named};

/// The credentials of a run. Shared between threads; two that ask for the same name get the same files.
#[derive(Debug)]
pub struct Pki {
    manifests: Arc<Manifests>,
    credentials: Credentials,
    directory: PathBuf,
    users: FileUsers,
    certified_keys: Memo<CertifiedKey>,
    identities: Memo<IssuedIdentity>,
    secrets: Memo<IssuedIdentity>,
    trusts: Memo<PathBuf>,
    crls: Memo<PathBuf>,
    distributions: Memo<IssuedIdentity>,
}

impl Pki {
    /// Nothing is issued yet. Files go below `directory`, which is made at the first use, and belong to `users`.
    #[must_use]
    pub fn new(manifests: Arc<Manifests>, credentials: Credentials, directory: PathBuf, users: FileUsers) -> Self {
        Self {
            manifests,
            credentials,
            directory,
            users,
            certified_keys: Memo::default(),
            identities: Memo::default(),
            secrets: Memo::default(),
            trusts: Memo::default(),
            crls: Memo::default(),
            distributions: Memo::default(),
        }
    }

    /// The manifests that it issues from.
    #[must_use]
    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }

    /// Everything in the credentials that can't be made from the manifests; see [`check()`].
    #[must_use]
    pub fn check(&self) -> Vec<CredentialProblem> {
        check(&self.manifests, &self.credentials)
    }

    /// Whether the name is that of a distribution: an identity and a trust at once.
    #[must_use]
    pub fn is_distribution(&self, name: &str) -> bool {
        self.credentials.distributions.contains_key(name)
    }

    /// The files of an identity or a distribution.
    ///
    /// # Errors
    /// [`PkiError`]: an unknown name, a variant that can't be made, files that can't be written.
    pub fn identity(&self, name: &str) -> Result<Arc<IssuedIdentity>, PkiError> {
        if let Some(distribution) = self.credentials.distributions.get(name) {
            return self.distributions.get(name, || self.distribute(name, distribution));
        }
        self.identities.get(name, || {
            let identity = self.known_identity(name)?;
            let what = format!("identity `{name}`");
            let certified_key = self.identity_key(name)?;
            let other = identity.key_of.as_deref().map(|other| self.identity_key(other)).transpose()?;
            let key_mode = identity.key_mode.as_deref().map_or(Ok(0o600), check::key_mode);
            let key_mode = key_mode.map_err(|error| PkiError::invalid(&what, error))?;
            let variant = FileVariant {
                with_intermediates: !identity.leave_out_intermediates,
                key_pem: other.as_ref().map(|other| other.key.pem.as_str()),
                key_mode,
                key_owner: identity.key_owner(),
                missing: &identity.missing,
                garbage: &identity.garbage,
            };
            identity::write(name, &certified_key, &variant, Some(&self.users), self.directory.join("identities").join(name))
        })
    }

    /// A Secret of the manifests, by its name.
    ///
    /// # Errors
    /// As [`Pki::identity`].
    pub fn secret(&self, name: &str) -> Result<Arc<IssuedIdentity>, PkiError> {
        self.secrets.get(name, || {
            let certificate = self.manifests.certificate_of_secret(name).ok_or_else(|| check::unknown_secret(&self.manifests, name))?;
            let certified_key = self.key_of_certificate(certificate)?;
            // For servers, which get copies of their own.
            identity::write(name, &certified_key, &FileVariant::default(), None, self.directory.join("secrets").join(name))
        })
    }

    /// The file of a trust, which is `ca.crt` for a distribution. It exists, unless its being missing is the point.
    ///
    /// # Errors
    /// As [`Pki::identity`].
    pub fn trust(&self, name: &str) -> Result<PathBuf, PkiError> {
        if self.credentials.distributions.contains_key(name) {
            return Ok(self.identity(name)?.path(SecretFile::Ca));
        }
        let path = self.trusts.get(name, || {
            let trusts = &self.credentials.trusts;
            let trust = trusts.get(name).ok_or_else(|| PkiError::unknown("trust", name, trusts.keys().map(String::as_str)))?;
            let content = match trust {
                Trust::Secret(secret) => Some(self.secret(secret)?.content(SecretFile::Ca).unwrap_or_default().to_owned()),
                Trust::Authorities(names) => {
                    let what = format!("trust `{name}`");
                    Some(names.iter().map(|authority| Ok(self.authority(&what, authority)?.certificate_pem(false))).collect::<Result<
                        String,
                        PkiError,
                    >>(
                    )?)
                }
                Trust::Missing => None,
                Trust::Garbage => Some(identity::GARBAGE.to_owned()),
            };
            self.write("trusts", &format!("{name}.crt"), content.as_deref())
        })?;
        Ok(path.as_ref().clone())
    }

    /// The file of a revocation list.
    ///
    /// # Errors
    /// As [`Pki::identity`].
    pub fn crl(&self, name: &str) -> Result<PathBuf, PkiError> {
        let path = self.crls.get(name, || {
            let crls = &self.credentials.crls;
            let crl = crls.get(name).ok_or_else(|| PkiError::unknown("CRL", name, crls.keys().map(String::as_str)))?;
            let what = format!("CRL `{name}`");
            let authority = self.authority(&what, &crl.issuer)?;
            let serials =
                crl.revoked.iter().map(|identity| Ok(self.identity_key(identity)?.serial)).collect::<Result<Vec<_>, PkiError>>()?;
            self.write("crls", &format!("{name}.crl"), Some(&authority.revoke(&what, &serials, &crl.validity)?))
        })?;
        Ok(path.as_ref().clone())
    }

    fn write(&self, folder: &str, file: &str, content: Option<&str>) -> Result<PathBuf, PkiError> {
        let directory = self.directory.join(folder);
        identity::make_directory(&directory)?;
        let path = directory.join(file);
        if let Some(content) = content {
            identity::write_file(&path, content, 0o644)?;
        }
        Ok(path)
    }

    fn known_identity(&self, name: &str) -> Result<&Identity, PkiError> {
        self.credentials.identities.get(name).ok_or_else(|| check::unknown_identity(&self.credentials, name))
    }

    /// An identity's certificate and own key. Where only its files differ, it is the Certificate's own, so that nothing else does.
    fn identity_key(&self, name: &str) -> Result<Arc<CertifiedKey>, PkiError> {
        let identity = self.known_identity(name)?;
        let reissued = identity.patch.is_some()
            || identity.validity.is_some()
            || identity.key_usage.is_some()
            || identity.extended_key_usage.is_some()
            || identity.issuer.is_some();
        if !reissued {
            return self.key_of_certificate(variant::certificate(&self.manifests, &identity.certificate)?);
        }
        self.certified_keys.get(&format!("identity {name}"), || {
            let what = format!("identity `{name}`");
            let spec = variant::identity_spec(&self.manifests, name, identity)?;
            let signer = match identity.issuer.as_deref() {
                Some(issuer) => self.signer(&what, issuer)?,
                None => self.issuer_signer(variant::issuer(&self.manifests, &what, &spec.issuer_ref)?)?,
            };
            let overrides = Overrides {
                validity: identity.validity.as_ref(),
                key_usage: identity.key_usage.as_deref(),
                extended_key_usage: identity.extended_key_usage.as_deref(),
            };
            CertifiedKey::issue(&what, &spec, overrides, &signer)
        })
    }

    fn key_of_certificate(&self, certificate: &Certificate) -> Result<Arc<CertifiedKey>, PkiError> {
        self.certified_keys.get(&format!("certificate {}", certificate.name), || {
            let what = format!("Certificate `{}`", certificate.name);
            let signer = self.issuer_signer(variant::issuer(&self.manifests, &what, &certificate.spec.issuer_ref)?)?;
            CertifiedKey::issue(&what, &certificate.spec, Overrides::default(), &signer)
        })
    }

    fn issuer_signer(&self, issuer: &Issuer) -> Result<Signer, PkiError> {
        match &issuer.kind {
            IssuerKind::SelfSigned => Ok(Signer::Itself),
            IssuerKind::Ca { secret } => {
                let certificate =
                    self.manifests.certificate_of_secret(secret).ok_or_else(|| check::unknown_secret(&self.manifests, secret))?;
                self.key_of_certificate(certificate).map(Signer::Authority)
            }
        }
    }

    /// Who signs by that name: `self`, an authority or an Issuer.
    fn signer(&self, what: &str, name: &str) -> Result<Signer, PkiError> {
        if name == ITSELF {
            return Ok(Signer::Itself);
        }
        match variant::named(&self.manifests, &self.credentials, name)
            .map_err(|error| PkiError::invalid(what, InvalidCause::Issuer(Box::new(error))))?
        {
            Named::Issuer(issuer) => self.issuer_signer(issuer),
            Named::Authority(authority) => {
                variant::no_circle(&self.credentials, name)?;
                let certified_key = self.certified_keys.get(&format!("authority {name}"), || {
                    let what = format!("authority `{name}`");
                    let spec = variant::authority_spec(&self.manifests, name, authority)?;
                    let signer = authority.issuer.as_deref().map_or(Ok(Signer::Itself), |issuer| self.signer(&what, issuer))?;
                    CertifiedKey::issue(&what, &spec, Overrides { validity: authority.validity.as_ref(), ..Overrides::default() }, &signer)
                })?;
                Ok(Signer::Authority(certified_key))
            }
        }
    }

    /// An authority that has a certificate.
    fn authority(&self, what: &str, name: &str) -> Result<Arc<CertifiedKey>, PkiError> {
        match self.signer(what, name)? {
            Signer::Authority(certified_key) => Ok(certified_key),
            Signer::Itself => Err(PkiError::invalid(what, InvalidCause::SelfSigned(name.to_owned()))),
        }
    }
}
