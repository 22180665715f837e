//! Credentials by name: the deployment's own and the faulty variants that scenarios need.
//!
//! A variant starts from an object of the manifests and patches it, so that only the offending thing differs.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Names for files. Each starts from a Certificate of the manifests and changes one thing, so that nothing else can be the reason.
/// Certificates are issued for each run and never kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Certificate authorities beside those of the manifests.
    #[serde(default)]
    pub authorities: BTreeMap<String, Authority>,
    /// Certificates with their keys.
    #[serde(default)]
    pub identities: BTreeMap<String, Identity>,
    /// Root files by name: which certificates a client or server trusts.
    #[serde(default)]
    pub trusts: BTreeMap<String, Trust>,
    /// Revocation lists by name, for `crl` of a scenario's `server`.
    #[serde(default)]
    pub crls: BTreeMap<String, Crl>,
    /// Secrets of a site's workers, made from a secrets provider. Each name is an identity and a trust at once: the three files of one
    /// volume.
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

/// Another CA: like a Certificate with `isCA: true`, with a key of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// The name of the Certificate (`isCA: true`) to start from.
    pub like: String,
    /// A JSON merge patch (RFC 7396) on the Certificate's `spec`; `null` removes a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
    /// Who signs it: an authority here or an Issuer of the manifests; absent: it is its own root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// In place of the Certificate's `duration` from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Validity>,
}

/// A validity period relative to the moment of issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validity {
    /// The start: a signed duration from now, such as `-2h`, `90m`, `-30s`.
    pub not_before: String,
    /// The end: a signed duration from now. Certificates know whole seconds; the end is never later than asked. Clocks differ, also those of
    /// programs on one machine, by milliseconds: what is to have ended for everybody ends at `-1m`.
    pub not_after: String,
}

/// A key usage bit, named as cert-manager does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum KeyUsage {
    /// The bit digitalSignature (RFC 5280 section 4.2.1.3): needed by TLS with ephemeral keys.
    #[serde(rename = "digital signature")]
    DigitalSignature,
    /// The bit keyEncipherment: needed by RSA key exchange, which TLS 1.3 has no more.
    #[serde(rename = "key encipherment")]
    KeyEncipherment,
    /// The bit keyAgreement: the key serves static Diffie-Hellman.
    #[serde(rename = "key agreement")]
    KeyAgreement,
    /// The bit dataEncipherment: the key encrypts data itself.
    #[serde(rename = "data encipherment")]
    DataEncipherment,
    /// The bit contentCommitment, once called nonRepudiation.
    #[serde(rename = "content commitment")]
    ContentCommitment,
    /// The bit keyCertSign: the key signs certificates, as a CA's does.
    #[serde(rename = "cert sign")]
    CertSign,
    /// The bit cRLSign: the key signs revocation lists, as a CA's does.
    #[serde(rename = "crl sign")]
    CrlSign,
}

/// An extended key usage, named as cert-manager does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ExtendedKeyUsage {
    /// The purpose id-kp-clientAuth (RFC 5280 section 4.2.1.12): a TLS client.
    #[serde(rename = "client auth")]
    ClientAuth,
    /// The purpose id-kp-serverAuth (RFC 5280 section 4.2.1.12): a TLS server.
    #[serde(rename = "server auth")]
    ServerAuth,
    /// anyExtendedKeyUsage: the certificate is for every purpose.
    #[serde(rename = "any")]
    Any,
}

/// A file of a Secret as a client mounts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SecretFile {
    /// The certificate, with the intermediates behind it.
    #[serde(rename = "tls.crt")]
    Certificate,
    /// The private key as PEM, in the `encoding` of its Certificate.
    #[serde(rename = "tls.key")]
    Key,
    /// The root that the issuer hands out with the certificate.
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

/// A certificate with its key, as files. One that changes only its files has the same certificate and key as the one that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// The `metadata.name` of the Certificate to start from.
    pub certificate: String,
    /// A JSON merge patch (RFC 7396) on the Certificate's `spec`; `null` removes a field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
    /// In place of the Certificate's `duration` from now.
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
    /// `true`: `tls.crt` holds the leaf alone. cert-manager writes the intermediates, too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leave_out_intermediates: bool,
    /// The identity whose key stands in `tls.key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_of: Option<String>,
    /// Octal mode of `tls.key`, at a client and at a server; `"0600"` if absent. PostgreSQL takes no key of its own that others can read,
    /// and does not start: `objection` expects that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<String>,
    /// `true`: `tls.key` belongs to another user, who is neither the one that client or server runs as, nor root; at a client, to the group
    /// of that client. Only a harness that root runs, or the container of a server, can give files away: otherwise the case is skipped.
    #[serde(default, skip_serializing_if = "is_false")]
    pub key_owned_by_other: bool,
    /// `true`: `tls.key` belongs to root and to the group of the user that client or server runs as, as in a volume of Kubernetes with an
    /// `fsGroup`. libpq and PostgreSQL then allow `key_mode: "0640"`. Otherwise as `key_owned_by_other`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub key_owned_by_root: bool,
    /// Those that don't exist, although their paths are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<SecretFile>,
    /// Those that are no PEM.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub garbage: Vec<SecretFile>,
}

fn is_false(value: &bool) -> bool {
    !*value
}

/// A root file: the certificates that a client or server trusts. Exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trust {
    /// `ca.crt` of the Secret of this name, which a Certificate of the manifests writes.
    Secret(String),
    /// The certificates of these authorities or Issuers, in one file, in this order.
    Authorities(Vec<String>),
    /// A path that doesn't exist.
    Missing,
    /// A file that is no PEM.
    Garbage,
}

/// A revocation list, signed by a CA.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Crl {
    /// Who signs it: an authority or an Issuer of the manifests.
    pub issuer: String,
    /// The identities on it.
    pub revoked: Vec<String>,
    /// Its thisUpdate and nextUpdate.
    pub validity: Validity,
}

/// How the Secret of a site's workers came to be: certificate, key and CA go into the secrets provider, and the ExternalSecret of the
/// manifests makes the Secret from what the provider gives back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// The identity whose `tls.crt` and `tls.key` are put into the provider.
    pub identity: String,
    /// The identity whose `tls.crt` is put there in place of the CA, by mistake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_as_ca: Option<String>,
    /// What the provider does to every text.
    #[serde(default, skip_serializing_if = "ProviderText::is_unchanged")]
    pub provider: ProviderText,
    /// Templates in place of the ExternalSecret's own, by the key that they make, such as `tls.crt: "{{ .client_password }}"`; `null`
    /// leaves the key out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template: BTreeMap<SecretFile, Option<String>>,
    /// Words of External Secrets' message where it can't make the Secret. There are no files then. A failure without this field is an
    /// error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fails: Option<String>,
    /// The mode of all three files, in decimal as in a manifest; 256 (octal 0400) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_mode: Option<u32>,
    /// `true`: the files belong to another user, who is neither the one that clients run as, nor root, and to the group of those clients. Only
    /// a harness that root runs can give files away: otherwise such cases are skipped.
    #[serde(default, skip_serializing_if = "is_false")]
    pub owned_by_other: bool,
    /// `true`: the files belong to root and to the group of the user that clients run as, as the kubelet makes them for a pod with an
    /// `fsGroup`. It gives that group the right to read them, too: write 288 (octal 0440) for its `defaultMode` 256. Otherwise as
    /// `owned_by_other`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub owned_by_root: bool,
}

/// Whose a key is, beside the one who is given it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyOwner {
    /// The client's or the server's own.
    #[default]
    Own,
    /// Another ordinary user's.
    Other,
    /// Root's, and the group's of the one who is given it.
    Root,
}

impl KeyOwner {
    fn of(by_other: bool, by_root: bool) -> Self {
        match (by_other, by_root) {
            (true, _) => Self::Other,
            (false, true) => Self::Root,
            (false, false) => Self::Own,
        }
    }
}

impl Identity {
    /// Whose `tls.key` is.
    #[must_use]
    pub fn key_owner(&self) -> KeyOwner {
        KeyOwner::of(self.key_owned_by_other, self.key_owned_by_root)
    }
}

impl Distribution {
    /// Whose the files are.
    #[must_use]
    pub fn owner(&self) -> KeyOwner {
        KeyOwner::of(self.owned_by_other, self.owned_by_root)
    }
}

/// What a secrets provider does to a text that is put into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProviderText {
    /// It gives back what was put in.
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
