//! Private keys in the forms that cert-manager writes.

use std::fmt;

use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};
use sha2::{Digest as _, Sha256};

use super::der::{CONTEXT_0, CONTEXT_1, SEQUENCE, element, elements, pem};
use super::error::{IssueCause, PkiError};
use deployment::certificate::{KeyAlgorithm, KeyEncoding, PrivateKey};

/// A key pair with its `tls.key`.
pub(super) struct Key {
    /// What rcgen signs with: it holds the private key.
    pub(super) pair: KeyPair,
    /// The text of `tls.key`, in the encoding that the Certificate asks for.
    pub(super) pem: String,
}

/// Leaves the private key out: it must not reach a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", self.pair.algorithm()).finish_non_exhaustive()
    }
}

impl Key {
    /// Makes a new one as `spec.privateKey` says.
    pub(super) fn generate(what: &str, spec: &PrivateKey) -> Result<Self, PkiError> {
        let size = spec.check_size().map_err(|error| PkiError::invalid(what, error))?;
        let pair = match (spec.algorithm, size) {
            (KeyAlgorithm::Ed25519, _) => KeyPair::generate_for(&rcgen::PKCS_ED25519),
            (KeyAlgorithm::ECDSA, Some(384)) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            (KeyAlgorithm::ECDSA, Some(521)) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
            (KeyAlgorithm::ECDSA, _) => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            (KeyAlgorithm::RSA, size) => {
                let size = match size {
                    Some(3072) => RsaKeySize::_3072,
                    Some(4096) => RsaKeySize::_4096,
                    _ => RsaKeySize::_2048,
                };
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size)
            }
        }
        .map_err(|error| PkiError::issue(what, error))?;
        let pem = encode(pair.serialized_der(), spec).ok_or_else(|| PkiError::issue(what, IssueCause::NotPkcs8))?;
        Ok(Self { pair, pem })
    }

    /// The key identifier that Go writes since 1.25: the first 20 bytes of the SHA-256 of the public key (RFC 7093, method 1).
    pub(super) fn identifier(&self) -> Vec<u8> {
        Sha256::digest(self.pair.der_bytes())[..20].to_vec()
    }
}

/// `tls.key` from PKCS #8; `None` if that is not what it is.
fn encode(pkcs8: &[u8], spec: &PrivateKey) -> Option<String> {
    let outer = elements(pkcs8)?;
    let parts = elements(outer.first()?.content)?;
    let (algorithm, private) = (parts.get(1)?, parts.get(2)?);
    match (spec.encoding, spec.algorithm) {
        (KeyEncoding::PKCS1, KeyAlgorithm::RSA) => Some(pem("RSA PRIVATE KEY", private.content)),
        (KeyEncoding::PKCS1, KeyAlgorithm::ECDSA) => {
            // SEC 1's form names the curve itself; inside PKCS #8 the name is left out, and OpenSSL can't load it then.
            let curve = elements(algorithm.content)?.get(1)?.whole;
            let inner = elements(elements(private.content)?.first()?.content)?;
            let (version, secret) = (inner.first()?, inner.get(1)?);
            let public = inner.iter().find(|element| element.tag == CONTEXT_1)?;
            let key = element(SEQUENCE, &[version.whole, secret.whole, &element(CONTEXT_0, &[curve]), public.whole]);
            Some(pem("EC PRIVATE KEY", &key))
        }
        // Version 0 without the public key, as Go writes it: version 1 is refused by OpenSSL 1.1.1.
        _ => Some(pem("PRIVATE KEY", &element(SEQUENCE, &[&[0x02, 0x01, 0x00], algorithm.whole, private.whole]))),
    }
}
