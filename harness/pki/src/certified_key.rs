//! A certificate with its key and chain: what stands in a Secret.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber};
use sha2::{Digest as _, Sha256};

use super::der::pem;
use super::error::{IssueCause, PkiError};
use super::key::Key;
use super::template::{self, Overrides};
use deployment::certificate::CertificateSpec;
use model::credential::Validity;

/// The key that signs a certificate.
#[derive(Debug, Clone)]
pub(super) enum Signer {
    /// The certificate's own key.
    Itself,
    /// That of a CA, whose chain follows the certificate.
    Authority(Arc<CertifiedKey>),
}

/// An issued certificate with its key.
#[derive(Debug)]
pub(super) struct CertifiedKey {
    pub(super) key: Arc<Key>,
    pub(super) der: Vec<u8>,
    /// What follows the leaf in `tls.crt`.
    intermediates: Vec<Vec<u8>>,
    /// The certificate of `ca.crt`, in DER.
    root: Vec<u8>,
    pub(super) serial: u128,
    params: CertificateParams,
    pub(super) is_ca: bool,
    pub(super) common_name: Option<String>,
}

impl CertifiedKey {
    /// Issues a certificate for a new key.
    pub(super) fn issue(what: &str, spec: &CertificateSpec, overrides: Overrides<'_>, signer: &Signer) -> Result<Self, PkiError> {
        let key = Arc::new(Key::generate(what, &spec.private_key.clone().unwrap_or_default())?);
        Self::issue_for(key, what, spec, overrides, signer)
    }

    /// Issues a certificate for a key that is there.
    pub(super) fn issue_for(
        key: Arc<Key>,
        what: &str,
        spec: &CertificateSpec,
        overrides: Overrides<'_>,
        signer: &Signer,
    ) -> Result<Self, PkiError> {
        let mut params = template::params(what, spec, overrides, &key)?;
        let serial = random_serial(what)?;
        params.serial_number = Some(SerialNumber::from_slice(&serial.to_be_bytes()));
        let failed = |error: rcgen::Error| PkiError::issue(what, error);
        let (certificate, intermediates, root) = match signer {
            Signer::Itself => (params.self_signed(&key.pair).map_err(failed)?, Vec::new(), None),
            Signer::Authority(authority) => {
                // Go: only where the names differ and the issuer has a key identifier, which only CAs have.
                params.use_authority_key_identifier_extension =
                    authority.is_ca && authority.params.distinguished_name != params.distinguished_name;
                let issuer = Issuer::from_params(&authority.params, &authority.key.pair);
                let certificate = params.signed_by(&key.pair, &issuer).map_err(failed)?;
                // cert-manager leaves the root out of tls.crt.
                let above = if authority.is_self_signed() {
                    Vec::new()
                } else {
                    [std::slice::from_ref(&authority.der), &authority.intermediates].concat()
                };
                (certificate, above, Some(authority.root.clone()))
            }
        };
        let der = certificate.der().to_vec();
        let root = root.unwrap_or_else(|| der.clone());
        let common_name = spec.common_name.clone().filter(|name| !name.is_empty());
        Ok(Self { key, der, intermediates, root, serial, params, is_ca: spec.is_ca, common_name })
    }

    fn is_self_signed(&self) -> bool {
        self.der == self.root
    }

    /// The first moment after its validity: X.509 counts whole seconds, and the last one is part of it (RFC 5280, 4.1.2.5). OpenSSL
    /// refuses it from that last second on, webpki from this moment.
    pub(super) fn end(&self) -> SystemTime {
        let not_after = SystemTime::from(self.params.not_after);
        let seconds = not_after.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds + 1)
    }

    /// The text of `tls.crt`: the leaf, and what follows it.
    pub(super) fn certificate_pem(&self, with_intermediates: bool) -> String {
        let mut text = pem("CERTIFICATE", &self.der);
        if with_intermediates {
            text.extend(self.intermediates.iter().map(|der| pem("CERTIFICATE", der)));
        }
        text
    }

    /// The text of `ca.crt`.
    pub(super) fn ca_pem(&self) -> String {
        pem("CERTIFICATE", &self.root)
    }

    /// SHA-256 of the certificate, in hex.
    pub(super) fn sha256(&self) -> String {
        Sha256::digest(&self.der).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
    }

    /// A revocation list of this CA, in PEM.
    pub(super) fn revoke(&self, what: &str, revoked: &[u128], validity: &Validity) -> Result<String, PkiError> {
        let now = SystemTime::now();
        let (this_update, next_update) = template::period(what, now, validity)?;
        let revoked_certs = revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial.to_be_bytes()),
                revocation_time: this_update.into(),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let list = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: self.params.key_identifier_method.clone(),
        };
        // rcgen refuses where the CA's key usage leaves out cRLSign, as cert-manager's default does: that it is refused is the verifier's business.
        let mut params = self.params.clone();
        params.key_usages.push(KeyUsagePurpose::CrlSign);
        let issuer: Issuer<'_, &KeyPair> = Issuer::from_params(&params, &self.key.pair);
        let list = list.signed_by(&issuer).map_err(|error| PkiError::issue(what, error))?;
        Ok(pem("X509 CRL", list.der()))
    }
}

/// 128 random bits, as cert-manager takes.
fn random_serial(what: &str) -> Result<u128, PkiError> {
    let mut bytes = [0_u8; 16];
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| PkiError::issue(what, IssueCause::NoRandomness))?;
    // Never 0, which is no serial number.
    Ok(u128::from_be_bytes(bytes).max(1))
}
