//! cert-manager's Issuer and Certificate (`cert-manager.io/v1`), as far as a local issuer can follow them.

use serde::{Deserialize, Serialize};

use load::Place;

/// An Issuer or ClusterIssuer.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// Whether it is a ClusterIssuer.
    pub cluster: bool,
    /// How it signs.
    pub kind: IssuerKind,
    /// Where it stands.
    pub place: Place,
}

/// How an Issuer signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IssuerKind {
    /// With the certificate's own key.
    SelfSigned,
    /// With the CA in a Secret.
    Ca {
        /// The Secret's name.
        secret: String,
    },
}

/// A Certificate.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `spec`.
    pub spec: CertificateSpec,
    /// Where it stands.
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
    /// Who signs it.
    pub issuer_ref: IssuerRef,
    /// Whether it may sign others.
    #[serde(default, rename = "isCA", skip_serializing_if = "std::ops::Not::not")]
    pub is_ca: bool,
    /// Key usages and extended key usages; digital signature and key encipherment if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<Usage>,
    /// The key.
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
    /// C.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub countries: Vec<String>,
    /// O.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizations: Vec<String>,
    /// OU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub organizational_units: Vec<String>,
    /// L.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub localities: Vec<String>,
    /// ST.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub provinces: Vec<String>,
    /// STREET.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub street_addresses: Vec<String>,
    /// Postal codes.
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
    pub labels: std::collections::BTreeMap<String, String>,
    /// Annotations.
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// The issuer of a Certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuerRef {
    /// Its name.
    pub name: String,
    /// Issuer (default) or ClusterIssuer.
    #[serde(default)]
    pub kind: IssuerRefKind,
    /// The API group.
    #[serde(default)]
    pub group: IssuerGroup,
}

/// The kinds of issuer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuerRefKind {
    /// Of the Certificate's namespace.
    #[default]
    Issuer,
    /// Of the cluster.
    ClusterIssuer,
}

/// The API groups of issuers: external ones can't be followed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IssuerGroup {
    /// cert-manager's own.
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
    /// The algorithm.
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
    /// Keeps it.
    Never,
}

/// The form of `tls.key`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyEncoding {
    /// `RSA PRIVATE KEY`; for an ECDSA key SEC 1's `EC PRIVATE KEY`; for Ed25519 the same as PKCS8.
    #[default]
    PKCS1,
    /// `PRIVATE KEY`.
    PKCS8,
}

/// Key algorithms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// RSA.
    #[default]
    RSA,
    /// ECDSA.
    ECDSA,
    /// Ed25519.
    Ed25519,
}

/// cert-manager's usages: key usages and extended key usages in one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Usage {
    /// digitalSignature, by an older name.
    #[serde(rename = "signing")]
    Signing,
    /// digitalSignature.
    #[serde(rename = "digital signature")]
    DigitalSignature,
    /// contentCommitment.
    #[serde(rename = "content commitment")]
    ContentCommitment,
    /// keyEncipherment.
    #[serde(rename = "key encipherment")]
    KeyEncipherment,
    /// dataEncipherment.
    #[serde(rename = "data encipherment")]
    DataEncipherment,
    /// keyAgreement.
    #[serde(rename = "key agreement")]
    KeyAgreement,
    /// keyCertSign.
    #[serde(rename = "cert sign")]
    CertSign,
    /// cRLSign.
    #[serde(rename = "crl sign")]
    CrlSign,
    /// encipherOnly.
    #[serde(rename = "encipher only")]
    EncipherOnly,
    /// decipherOnly.
    #[serde(rename = "decipher only")]
    DecipherOnly,
    /// anyExtendedKeyUsage.
    #[serde(rename = "any")]
    Any,
    /// id-kp-serverAuth.
    #[serde(rename = "server auth")]
    ServerAuth,
    /// id-kp-clientAuth.
    #[serde(rename = "client auth")]
    ClientAuth,
    /// id-kp-codeSigning.
    #[serde(rename = "code signing")]
    CodeSigning,
    /// id-kp-emailProtection.
    #[serde(rename = "email protection")]
    EmailProtection,
    /// id-kp-emailProtection, by another name.
    #[serde(rename = "s/mime")]
    SMime,
    /// id-kp-timeStamping.
    #[serde(rename = "timestamping")]
    Timestamping,
    /// id-kp-OCSPSigning.
    #[serde(rename = "ocsp signing")]
    OcspSigning,
}

/// A private key of a size that cert-manager, or this harness, does not make.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{size} is no size of an {algorithm:?} key that is interpreted here: {} are", allowed.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
pub struct KeySizeError {
    /// The size that was asked for, in bits.
    pub size: u32,
    /// The key's algorithm.
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
