//! cert-manager's Issuer and Certificate (`cert-manager.io/v1`), as far as a local issuer can follow them.

use serde::{Deserialize, Serialize};

use load::Place;

/// An Issuer or ClusterIssuer.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `metadata.name`, unique among those of its kind.
    pub name: String,
    /// `metadata.namespace`; `None`: the one that it is applied to.
    pub namespace: Option<String>,
    /// Whether it is a ClusterIssuer.
    pub cluster: bool,
    /// Which key it signs with.
    pub kind: IssuerKind,
    /// The file, line and column of its name.
    pub place: Place,
}

/// How an Issuer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKind {
    /// With the certificate's own key.
    SelfSigned,
    /// With the CA in a Secret.
    Ca {
        /// The name of the Secret, which a Certificate with `isCA` writes.
        secret: String,
    },
}

/// A certificate that cert-manager would issue and keep in a Secret.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// `metadata.name`, unique among those of its kind.
    pub name: String,
    /// `metadata.namespace`; `None`: the one that it is applied to.
    pub namespace: Option<String>,
    /// `spec`, its values checked by the rules of cert-manager's webhook.
    pub spec: CertificateSpec,
    /// The file, line and column of its name.
    pub place: Place,
}

/// `spec` of a Certificate. What is missing here is listed in `fields.rs`, so that its use gets an error of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateSpec {
    /// The rest of the subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// The subject's CN. It is not copied into the subject alternative names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_name: Option<String>,
    /// Lifetime as a Go duration; 90 days if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// How long before its end it is renewed; a third of the lifetime if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
    /// The same as a share of the lifetime.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before_percentage: Option<u32>,
    /// DNS subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// IP subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<std::net::IpAddr>,
    /// URI subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// E-mail subject alternative names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
    /// The Secret that holds the result.
    pub secret_name: String,
    /// Labels and annotations of that Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_template: Option<SecretTemplate>,
    /// The Issuer or ClusterIssuer that signs it.
    pub issuer_ref: IssuerRef,
    /// Whether it may sign others.
    #[serde(default, rename = "isCA", skip_serializing_if = "std::ops::Not::not")]
    pub is_ca: bool,
    /// Key usages and extended key usages; digital signature and key encipherment if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<Usage>,
    /// How its key is made; absent: RSA of 2048 bits, new at each renewal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PrivateKey>,
    /// Kept CertificateRequests: nothing to do here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision_history_limit: Option<u32>,
}

/// The subject without CN.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Subject {
    /// The name's C (countryName), RFC 5280 appendix A.1 like the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// The name's O (organizationName).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    /// The name's OU (organizationalUnitName).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizational_units: Vec<String>,
    /// The name's L (localityName).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<String>,
    /// The name's ST (stateOrProvinceName).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provinces: Vec<String>,
    /// The name's STREET (streetAddress).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub street_addresses: Vec<String>,
    /// The postalCode attributes of the name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub postal_codes: Vec<String>,
    /// The serialNumber attribute of the name; not the certificate's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial_number: Option<String>,
}

/// Labels and annotations of the Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretTemplate {
    /// Labels; `cnpg.io/reload` is the one that matters.
    #[serde(deserialize_with = "super::labels::labels")]
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations of the same Secret.
    #[serde(deserialize_with = "super::labels::labels")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The issuer of a Certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerRef {
    /// `metadata.name` of the Issuer or ClusterIssuer.
    pub name: String,
    /// Issuer (default) or ClusterIssuer.
    #[serde(default)]
    pub kind: IssuerRefKind,
    /// The API group: external issuers have one of their own.
    #[serde(default)]
    pub group: IssuerGroup,
}

/// The kinds of issuer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuerRefKind {
    /// Of the Certificate's namespace.
    #[default]
    Issuer,
    /// Of no namespace, for Certificates of all.
    ClusterIssuer,
}

/// The API groups of issuers: external ones can't be followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuerGroup {
    /// The group of cert-manager's own issuers, and the default.
    #[default]
    #[serde(rename = "cert-manager.io")]
    CertManager,
}

/// A key as cert-manager makes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PrivateKey {
    /// Whether renewal makes a new key (`Always`, the default since 1.18).
    pub rotation_policy: RotationPolicy,
    /// The form of `tls.key`.
    pub encoding: KeyEncoding,
    /// Which algorithm; its default is RSA.
    pub algorithm: KeyAlgorithm,
    /// RSA 2048 (default), 3072, 4096; ECDSA 256 (default), 384, 521.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
}

/// What renewal does with the key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotationPolicy {
    /// Makes a new one.
    #[default]
    Always,
    /// Keeps the key as long as the Secret has it.
    Never,
}

/// The form of `tls.key`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyEncoding {
    /// `RSA PRIVATE KEY`; for an ECDSA key SEC 1's `EC PRIVATE KEY`; for Ed25519 the same as PKCS8.
    #[default]
    PKCS1,
    /// `PRIVATE KEY` (PKCS #8, RFC 5208), whatever the algorithm.
    PKCS8,
}

/// The key algorithms that cert-manager offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// RSA, which is cert-manager's default.
    #[default]
    RSA,
    /// ECDSA on P-256, P-384 or P-521, by the size.
    ECDSA,
    /// Ed25519, which has no sizes.
    Ed25519,
}

/// cert-manager's usages: key usages and extended key usages in one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Usage {
    /// digitalSignature, by an older name.
    #[serde(rename = "signing")]
    Signing,
    /// keyUsage digitalSignature, bit 0 (RFC 5280, 4.2.1.3).
    #[serde(rename = "digital signature")]
    DigitalSignature,
    /// keyUsage contentCommitment, bit 1 (RFC 5280, 4.2.1.3).
    #[serde(rename = "content commitment")]
    ContentCommitment,
    /// keyUsage keyEncipherment, bit 2 (RFC 5280, 4.2.1.3).
    #[serde(rename = "key encipherment")]
    KeyEncipherment,
    /// keyUsage dataEncipherment, bit 3 (RFC 5280, 4.2.1.3).
    #[serde(rename = "data encipherment")]
    DataEncipherment,
    /// keyUsage keyAgreement, bit 4 (RFC 5280, 4.2.1.3).
    #[serde(rename = "key agreement")]
    KeyAgreement,
    /// keyUsage keyCertSign, bit 5 (RFC 5280, 4.2.1.3).
    #[serde(rename = "cert sign")]
    CertSign,
    /// keyUsage cRLSign, bit 6 (RFC 5280, 4.2.1.3).
    #[serde(rename = "crl sign")]
    CrlSign,
    /// keyUsage encipherOnly, bit 7 (RFC 5280, 4.2.1.3).
    #[serde(rename = "encipher only")]
    EncipherOnly,
    /// keyUsage decipherOnly, bit 8 (RFC 5280, 4.2.1.3).
    #[serde(rename = "decipher only")]
    DecipherOnly,
    /// The extKeyUsage anyExtendedKeyUsage, 2.5.29.37.0.
    #[serde(rename = "any")]
    Any,
    /// The extKeyUsage id-kp-serverAuth, 1.3.6.1.5.5.7.3.1.
    #[serde(rename = "server auth")]
    ServerAuth,
    /// The extKeyUsage id-kp-clientAuth, 1.3.6.1.5.5.7.3.2.
    #[serde(rename = "client auth")]
    ClientAuth,
    /// The extKeyUsage id-kp-codeSigning, 1.3.6.1.5.5.7.3.3.
    #[serde(rename = "code signing")]
    CodeSigning,
    /// The extKeyUsage id-kp-emailProtection, 1.3.6.1.5.5.7.3.4.
    #[serde(rename = "email protection")]
    EmailProtection,
    /// id-kp-emailProtection, by another name.
    #[serde(rename = "s/mime")]
    SMime,
    /// The extKeyUsage id-kp-timeStamping, 1.3.6.1.5.5.7.3.8.
    #[serde(rename = "timestamping")]
    Timestamping,
    /// The extKeyUsage id-kp-OCSPSigning, 1.3.6.1.5.5.7.3.9.
    #[serde(rename = "ocsp signing")]
    OcspSigning,
}

/// A private key of a size that cert-manager, or this harness, does not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{size} is no size of an {algorithm:?} key that is interpreted here: {} are", allowed.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
pub struct KeySizeError {
    /// The size that was asked for, in bits.
    pub size: u32,
    /// The algorithm that the Certificate asks for.
    pub algorithm: KeyAlgorithm,
    /// The sizes that there are for it.
    pub allowed: &'static [u32],
}

impl PrivateKey {
    /// The size with cert-manager's default; `None` where the algorithm has no sizes.
    ///
    /// # Errors
    /// [`KeySizeError`] with the sizes that are allowed.
    pub fn check_size(&self) -> Result<Option<u32>, KeySizeError> {
        let (default, allowed): (u32, &'static [u32]) = match self.algorithm {
            KeyAlgorithm::RSA => (2048, &[2048, 3072, 4096]),
            KeyAlgorithm::ECDSA => (256, &[256, 384, 521]),
            KeyAlgorithm::Ed25519 => return Ok(None),
        };
        let size = self.size.unwrap_or(default);
        if allowed.contains(&size) {
            return Ok(Some(size));
        }
        Err(KeySizeError { size, algorithm: self.algorithm, allowed })
    }
}
