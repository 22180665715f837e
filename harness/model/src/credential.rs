//! Credentials by name: the deployment's own and the faulty variants that scenarios need.
//!
//! A variant starts from an object of the manifests and patches it, so that only the offending thing differs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything that can be named in `identity:`, `trust:`, `issuer:` and `crl:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Certificate authorities beside those of the manifests.
    #[serde(default)]
    pub authorities: BTreeMap<String, Authority>,
    /// Certificates with their keys.
    #[serde(default)]
    pub identities: BTreeMap<String, Identity>,
    /// Files of trusted certificates.
    #[serde(default)]
    pub trusts: BTreeMap<String, Trust>,
    /// Revocation lists.
    #[serde(default)]
    pub crls: BTreeMap<String, Crl>,
    /// Site Secrets, made from the secrets provider. Each is an identity and a trust, by the same name.
    #[serde(default)]
    pub distributions: BTreeMap<String, Distribution>,
}

impl Credentials {
    /// Whether a client can have this as its identity.
    #[must_use]
    pub fn is_identity(&self, name: &str) -> bool {
        self.identities.contains_key(name) || self.distributions.contains_key(name)
    }

    /// Whether a client can have this as its trust.
    #[must_use]
    pub fn is_trust(&self, name: &str) -> bool {
        self.trusts.contains_key(name) || self.distributions.contains_key(name)
    }
}

/// A CA made like one of the manifests, with a key of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// The name of the Certificate (`isCA: true`) to start from.
    pub like: String,
    /// A JSON merge patch on the Certificate's `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
    /// Who signs it: an authority here or an Issuer of the manifests; absent: itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Other validity than the Certificate's `duration` from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Validity>,
}

/// A validity period relative to the moment of issue, such as `-2h` to `-1h`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// Start: a signed duration (`-2h`, `10m`, `1h`).
    pub not_before: String,
    /// End: a signed duration.
    pub not_after: String,
}

/// A key usage bit, named as cert-manager does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyUsage {
    /// digitalSignature.
    #[serde(rename = "digital signature")]
    DigitalSignature,
    /// keyEncipherment.
    #[serde(rename = "key encipherment")]
    KeyEncipherment,
    /// keyAgreement.
    #[serde(rename = "key agreement")]
    KeyAgreement,
    /// dataEncipherment.
    #[serde(rename = "data encipherment")]
    DataEncipherment,
    /// contentCommitment.
    #[serde(rename = "content commitment")]
    ContentCommitment,
    /// keyCertSign.
    #[serde(rename = "cert sign")]
    CertSign,
    /// cRLSign.
    #[serde(rename = "crl sign")]
    CrlSign,
}

/// An extended key usage, named as cert-manager does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExtendedKeyUsage {
    /// id-kp-clientAuth.
    #[serde(rename = "client auth")]
    ClientAuth,
    /// id-kp-serverAuth.
    #[serde(rename = "server auth")]
    ServerAuth,
    /// anyExtendedKeyUsage.
    #[serde(rename = "any")]
    Any,
}

/// A file of a Secret as a client mounts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SecretFile {
    /// The certificate.
    #[serde(rename = "tls.crt")]
    Certificate,
    /// The key.
    #[serde(rename = "tls.key")]
    Key,
    /// The CA.
    #[serde(rename = "ca.crt")]
    Ca,
}

impl SecretFile {
    /// Its name in a Secret and on disk.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Certificate => "tls.crt",
            Self::Key => "tls.key",
            Self::Ca => "ca.crt",
        }
    }
}

/// A certificate with its key, as files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The name of the Certificate in the manifests to start from.
    pub certificate: String,
    /// A JSON merge patch on the Certificate's `spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
    /// Other validity than the Certificate's `duration` from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Validity>,
    /// Key usages in place of what cert-manager would write; an empty list leaves the extension out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_usage: Option<Vec<KeyUsage>>,
    /// Extended key usages in place of what cert-manager would write; an empty list leaves the extension out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_key_usage: Option<Vec<ExtendedKeyUsage>>,
    /// Who signs it: an authority, an Issuer of the manifests, or `self`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Whether `tls.crt` leaves out the intermediates (they are in by default, as cert-manager writes them).
    #[serde(default, skip_serializing_if = "is_false")]
    pub leave_out_intermediates: bool,
    /// The identity whose key stands in `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_of: Option<String>,
    /// Octal mode of `tls.key`; `"0600"` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<String>,
    /// Whether `tls.key` belongs to the servers' user instead of the harness's (only root can do that; else it is the harness's anyway).
    #[serde(default, skip_serializing_if = "is_false")]
    pub key_owned_by_other: bool,
    /// Files that are named but don't exist.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<SecretFile>,
    /// Files whose content is no PEM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub garbage: Vec<SecretFile>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// A file of trusted certificates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trust {
    /// `ca.crt` of a Secret of the manifests, by Secret name.
    Secret(String),
    /// The certificates of authorities or Issuers, in this order.
    Authorities(Vec<String>),
    /// A path that doesn't exist.
    Missing,
    /// A file that is no PEM.
    Garbage,
}

/// A revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crl {
    /// Who signs it: an authority or an Issuer of the manifests.
    pub issuer: String,
    /// Identities on it.
    pub revoked: Vec<String>,
    /// Its thisUpdate and nextUpdate.
    pub validity: Validity,
}

/// How the Secret of a site's workers came to be: certificate, key and CA go into the secrets provider, and the ExternalSecret of the
/// manifests makes the Secret from what the provider gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The identity whose `tls.crt` and `tls.key` are copied into the provider.
    pub identity: String,
    /// The identity whose `tls.crt` is copied into the provider in place of the CA, by mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_as_ca: Option<String>,
    /// What the provider does to the text.
    #[serde(default, skip_serializing_if = "ProviderText::is_unchanged")]
    pub provider: ProviderText,
    /// Templates in place of the ExternalSecret's own, by the key that they make; `null` leaves the key out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template: BTreeMap<SecretFile, Option<String>>,
    /// Why External Secrets can't make the Secret: words of its message. There is no Secret then, and no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
    /// The volume's `defaultMode`, in decimal as JSON and the documents have it; 256 (octal 0400) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<u32>,
    /// Whether the files belong to the servers' user instead of the harness's (only root can do that; else they are the harness's anyway).
    #[serde(default, skip_serializing_if = "is_false")]
    pub owned_by_other: bool,
}

/// What a secrets provider does to a text that is put into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderText {
    /// Nothing.
    #[default]
    Unchanged,
    /// Lines end with CR and LF.
    Crlf,
    /// Lines end with CR alone.
    Cr,
    /// Lines end with the two characters `\r` and LF.
    WrittenOutCr,
    /// One line: a space in place of every line end.
    OneLine,
    /// Blocks are joined by a space, their lines left alone.
    BlocksJoinedBySpace,
    /// Blocks are joined by nothing, their lines left alone.
    BlocksJoined,
}

impl ProviderText {
    fn is_unchanged(&self) -> bool {
        *self == Self::Unchanged
    }

    /// The text as the provider gives it back.
    #[must_use]
    pub fn of(self, text: &str) -> String {
        match self {
            Self::Unchanged => text.to_owned(),
            Self::Crlf => text.replace('\n', "\r\n"),
            Self::Cr => text.replace('\n', "\r"),
            Self::WrittenOutCr => text.replace('\n', "\\r\n"),
            Self::OneLine => text.replace('\n', " "),
            Self::BlocksJoinedBySpace => text.replace("-----\n-----", "----- -----"),
            Self::BlocksJoined => text.replace("-----\n-----", "----------"),
        }
    }
}
