//! What happens to a deployment over time: re-issued certificates, overwritten Secrets, reloads, restarts.
//!
//! In a scenario file names are [`Text`](super::text::Text)s, which may hold `${axis}`; an environment gets them as `String`s.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::credential::{SecretFile, Validity};
use super::server::Service;

/// A part of the deployment that has files of its own, or that can be reloaded or restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// PostgreSQL; the primary where there is a replica.
    Postgres,
    /// The PostgreSQL that streams from the primary.
    Replica,
    /// The Redis server; the other one in a scenario of PostgreSQL is never there.
    Redis,
    /// The Secret that the global cluster's pods mount.
    Client,
    /// The Secret that a site's pods mount, made from the secrets provider.
    Site,
    /// The TLS-passthrough gateway in front of the server (`with: [gateway]`).
    Gateway,
}

impl Target {
    /// Its name in scenario files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Replica => "replica",
            Self::Redis => "redis",
            Self::Client => "client",
            Self::Site => "site",
            Self::Gateway => "gateway",
        }
    }
}

/// The server that speaks it; for PostgreSQL the primary.
impl From<Service> for Target {
    fn from(service: Service) -> Self {
        match service {
            Service::Postgres => Self::Postgres,
            Service::Redis => Self::Redis,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One change of a timeline. It returns when it is done. What follows from it in a real deployment is a change of its own: a Secret reaches
/// nobody until a `sync`, and no server reads a file until a `reload` or `restart`. What happens to a server must happen to one that is
/// there, and what is paused can only be resumed or killed: loading the file fails otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub enum Change<T> {
    /// cert-manager issues the Certificate again for the key that it has, and writes its Secret with the issuer's present root. Renewing a
    /// CA re-issues no leaf and writes no other Secret.
    Renew(Reissue<T>),
    /// The same with a new key: rotationPolicy Always, the default.
    Rekey(Reissue<T>),
    /// Somebody writes `tls.crt`, `tls.key` or `ca.crt` of a Secret.
    Overwrite(Overwrite<T>),
    /// Somebody deletes the Secret of this name: cert-manager issues its Certificate again, with a new key.
    DeleteSecret(T),
    /// Somebody sets or drops a label of a Secret. cert-manager puts the labels of `secretTemplate` back whenever it issues.
    Label(Label<T>),
    /// Somebody changes the Cluster object.
    PatchCluster(ClusterPatch<T>),
    /// The operator looks: a Secret of the Cluster that changed and has the label `cnpg.io/reload`, or a change of the Cluster, makes it
    /// write the server's files and reload. It leaves anything else.
    Reconcile,
    /// The target's files become what the Secrets hold: what the kubelet does to a mount. Nobody is told.
    Sync(Target),
    /// The target reads its files again: SIGHUP for PostgreSQL, `CONFIG SET` of the same paths for Redis.
    Reload(Target),
    /// The target stops and starts again in order, on the same port.
    Restart(Target),
    /// The target stops in order.
    Stop(Target),
    /// The target, stopped or killed before, starts on the same port.
    Start(Target),
    /// The server ends the sessions of clients; for `replica` the primary ends the WAL sender.
    Disconnect(Target),
    /// All processes of the server hang: its port takes connections (the kernel does), and nobody answers; sessions stay. SIGSTOP locally,
    /// `docker pause` for a container. For `postgres`, `replica`, `redis` and `gateway`.
    Pause(Target),
    /// The server, paused before, goes on where it was: who still waits gets his answer.
    Resume(Target),
    /// All processes of the server end at once, without a word (SIGKILL, `docker kill`): sessions are closed, and the port refuses. Of a
    /// container the address is gone as well, and clients wait until their own limit. A later `start` brings it back: PostgreSQL recovers
    /// from its WAL; Redis, without persistence here, is empty.
    Kill(Target),
    /// The server's network is gone: packets are lost, new connections get no answer, and sessions don't notice until they have something
    /// to say. The container leaves its network; the local environment can't, and skips the case.
    Cut(Target),
    /// The server's network, cut before, comes back with the same address. What becomes of a session is up to TCP.
    Mend(Target),
    /// The user's lines in pg_hba.conf; a `reload` makes them count. They can name networks, as `server.pg_hba` can.
    PgHba(Vec<T>),
    /// A revocation list in the server's files; a `reload` makes it count.
    Crl(CrlOf<T>),
    /// The revocation list is gone; a `reload` makes that count.
    DropCrl,
    /// The site's certificate, key and CA go from the global cluster to the secrets provider.
    Push,
    /// Waits for the next refresh of the site's ExternalSecret.
    Refresh,
    /// Waits until the end of a certificate has passed, by this machine's clock: `C` is the present one of Certificate `C`, `C@1` the first
    /// that was issued for it, `C@2` the second. An end that is further away than the run's limit (`--timeout`) is not reached.
    AwaitExpiry(T),
}

/// A Certificate to issue again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Reissue<T> {
    /// The `metadata.name` of the Certificate.
    pub certificate: T,
    /// In place of its `duration` from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Validity>,
    /// A JSON merge patch (RFC 7396) on its `spec`, which stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
}

/// One key of a Secret, written by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Overwrite<T> {
    /// The name of the Secret that is written, as in `secretName` of a Certificate.
    pub secret: T,
    /// The key of the Secret that is written.
    pub key: SecretFile,
    /// What it holds from now on.
    pub with: Content<T>,
}

/// What somebody writes into a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content<T> {
    /// The certificates of these Certificates in one file, a bundle. `C@1` is the first that was issued for `C`, `C` the present one.
    Certificates(Vec<T>),
    /// The same key of the Secret of this name.
    Secret(T),
    /// A text that is no PEM.
    Garbage,
    /// Nothing: the key is gone.
    Removed,
}

/// A label of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Label<T> {
    /// The name of the Secret that gets or loses the label.
    pub secret: T,
    /// The label's key, such as `cnpg.io/reload`.
    pub label: T,
    /// Its value; absent: the label is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<T>,
}

/// A change of the Cluster's `spec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct ClusterPatch<T> {
    /// `certificates`: `serverTLSSecret`, `serverCASecret`, `clientCASecret`, `replicationTLSSecret` to the Secrets they name from now on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates: BTreeMap<String, T>,
    /// `metadata.annotations` that are set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, T>,
}

/// A revocation list to be made at this point of the timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct CrlOf<T> {
    /// The Certificate of the CA that signs it.
    pub issuer: T,
    /// The certificates that are on it: `C` is the present one of Certificate `C`, `C@1` the first that was issued for it.
    pub revoked: Vec<T>,
    /// Its thisUpdate and nextUpdate.
    pub validity: Validity,
}

/// What a name in a change is the name of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A Certificate of the manifests.
    Certificate,
    /// One, or `NAME@1`: one of those that were issued for it.
    Issued,
    /// A Secret that a Certificate of the manifests writes.
    Secret,
}

impl<T> Change<T> {
    /// The names in it that the manifests must know.
    #[must_use]
    pub fn names(&self) -> Vec<(Named, &T)> {
        match self {
            Self::Renew(reissue) | Self::Rekey(reissue) => vec![(Named::Certificate, &reissue.certificate)],
            Self::Overwrite(Overwrite { secret, with, .. }) => {
                let mut names = vec![(Named::Secret, secret)];
                match with {
                    Content::Certificates(issued) => names.extend(issued.iter().map(|name| (Named::Issued, name))),
                    Content::Secret(secret) => names.push((Named::Secret, secret)),
                    Content::Garbage | Content::Removed => {}
                }
                names
            }
            Self::DeleteSecret(secret) | Self::Label(Label { secret, .. }) => vec![(Named::Secret, secret)],
            Self::PatchCluster(patch) => patch.certificates.values().map(|secret| (Named::Secret, secret)).collect(),
            Self::Crl(CrlOf { issuer, revoked, .. }) => {
                let revoked = revoked.iter().map(|name| (Named::Issued, name));
                std::iter::once((Named::Certificate, issuer)).chain(revoked).collect()
            }
            Self::AwaitExpiry(certificate) => vec![(Named::Issued, certificate)],
            Self::Reconcile
            | Self::Sync(_)
            | Self::Reload(_)
            | Self::Restart(_)
            | Self::Stop(_)
            | Self::Start(_)
            | Self::Disconnect(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::Kill(_)
            | Self::Cut(_)
            | Self::Mend(_)
            | Self::PgHba(_)
            | Self::DropCrl
            | Self::Push
            | Self::Refresh => Vec::new(),
        }
    }

    /// The server or gateway that is to do something, or that something happens to; `None` for a change of what is written somewhere.
    #[must_use]
    pub fn of_server(&self) -> Option<Target> {
        match self {
            Self::Reload(target)
            | Self::Restart(target)
            | Self::Stop(target)
            | Self::Start(target)
            | Self::Disconnect(target)
            | Self::Pause(target)
            | Self::Resume(target)
            | Self::Kill(target)
            | Self::Cut(target)
            | Self::Mend(target) => Some(*target),
            _ => None,
        }
    }

    /// The same change with every name replaced.
    ///
    /// # Errors
    /// The first that `name` gives.
    pub fn try_map<U, E>(&self, name: &mut dyn FnMut(&T) -> Result<U, E>) -> Result<Change<U>, E> {
        fn all<T, U, E>(names: &[T], name: &mut dyn FnMut(&T) -> Result<U, E>) -> Result<Vec<U>, E> {
            names.iter().map(name).collect()
        }
        fn values<T, U, E>(map: &BTreeMap<String, T>, name: &mut dyn FnMut(&T) -> Result<U, E>) -> Result<BTreeMap<String, U>, E> {
            map.iter().map(|(key, value)| Ok((key.clone(), name(value)?))).collect()
        }
        Ok(match self {
            Self::Renew(reissue) => Change::Renew(reissue.try_map(name)?),
            Self::Rekey(reissue) => Change::Rekey(reissue.try_map(name)?),
            Self::Overwrite(Overwrite { secret, key, with }) => Change::Overwrite(Overwrite {
                secret: name(secret)?,
                key: *key,
                with: match with {
                    Content::Certificates(names) => Content::Certificates(all(names, name)?),
                    Content::Secret(secret) => Content::Secret(name(secret)?),
                    Content::Garbage => Content::Garbage,
                    Content::Removed => Content::Removed,
                },
            }),
            Self::DeleteSecret(secret) => Change::DeleteSecret(name(secret)?),
            Self::Label(Label { secret, label, value }) => {
                Change::Label(Label { secret: name(secret)?, label: name(label)?, value: value.as_ref().map(&mut *name).transpose()? })
            }
            Self::PatchCluster(ClusterPatch { certificates, annotations }) => {
                Change::PatchCluster(ClusterPatch { certificates: values(certificates, name)?, annotations: values(annotations, name)? })
            }
            Self::Reconcile => Change::Reconcile,
            Self::Sync(target) => Change::Sync(*target),
            Self::Reload(target) => Change::Reload(*target),
            Self::Restart(target) => Change::Restart(*target),
            Self::Stop(target) => Change::Stop(*target),
            Self::Start(target) => Change::Start(*target),
            Self::Disconnect(target) => Change::Disconnect(*target),
            Self::Pause(target) => Change::Pause(*target),
            Self::Resume(target) => Change::Resume(*target),
            Self::Kill(target) => Change::Kill(*target),
            Self::Cut(target) => Change::Cut(*target),
            Self::Mend(target) => Change::Mend(*target),
            Self::PgHba(lines) => Change::PgHba(all(lines, name)?),
            Self::Crl(CrlOf { issuer, revoked, validity }) => {
                Change::Crl(CrlOf { issuer: name(issuer)?, revoked: all(revoked, name)?, validity: validity.clone() })
            }
            Self::DropCrl => Change::DropCrl,
            Self::Push => Change::Push,
            Self::Refresh => Change::Refresh,
            Self::AwaitExpiry(certificate) => Change::AwaitExpiry(name(certificate)?),
        })
    }
}

impl<T> Reissue<T> {
    fn try_map<U, E>(&self, name: &mut dyn FnMut(&T) -> Result<U, E>) -> Result<Reissue<U>, E> {
        Ok(Reissue { certificate: name(&self.certificate)?, validity: self.validity.clone(), patch: self.patch.clone() })
    }
}

/// One line, as it stands in the scenario file.
impl fmt::Display for Change<String> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reissue = |f: &mut fmt::Formatter<'_>, what: &str, reissue: &Reissue<String>| match &reissue.validity {
            Some(validity) => write!(f, "{what} {} (until {} from now)", reissue.certificate, validity.not_after),
            None => write!(f, "{what} {}", reissue.certificate),
        };
        match self {
            Self::Renew(certificate) => reissue(f, "renew", certificate),
            Self::Rekey(certificate) => reissue(f, "rekey", certificate),
            Self::Overwrite(Overwrite { secret, key, with }) => {
                write!(f, "overwrite {} of Secret {secret} with ", key.file_name())?;
                match with {
                    Content::Certificates(names) => f.write_str(&names.join(" + ")),
                    Content::Secret(other) => write!(f, "that of Secret {other}"),
                    Content::Garbage => f.write_str("garbage"),
                    Content::Removed => f.write_str("nothing"),
                }
            }
            Self::DeleteSecret(secret) => write!(f, "delete Secret {secret}"),
            Self::Label(Label { secret, label, value: Some(value) }) => write!(f, "label Secret {secret} {label}={value}"),
            Self::Label(Label { secret, label, value: None }) => write!(f, "drop label {label} of Secret {secret}"),
            Self::PatchCluster(ClusterPatch { certificates, annotations }) => {
                let fields = certificates.iter().chain(annotations).map(|(field, value)| format!("{field}={value}"));
                write!(f, "patch the Cluster: {}", fields.collect::<Vec<_>>().join(", "))
            }
            Self::Reconcile => f.write_str("reconcile"),
            Self::Sync(target) => write!(f, "sync {target}"),
            Self::Reload(target) => write!(f, "reload {target}"),
            Self::Restart(target) => write!(f, "restart {target}"),
            Self::Stop(target) => write!(f, "stop {target}"),
            Self::Start(target) => write!(f, "start {target}"),
            Self::Disconnect(target) => write!(f, "disconnect {target}"),
            Self::Pause(target) => write!(f, "pause {target}"),
            Self::Resume(target) => write!(f, "resume {target}"),
            Self::Kill(target) => write!(f, "kill {target}"),
            Self::Cut(target) => write!(f, "cut {target}"),
            Self::Mend(target) => write!(f, "mend {target}"),
            Self::PgHba(lines) => write!(f, "pg_hba: {}", lines.join("; ")),
            Self::Crl(CrlOf { issuer, revoked, .. }) => write!(f, "CRL of {issuer} with [{}]", revoked.join(", ")),
            Self::DropCrl => f.write_str("drop the CRL"),
            Self::Push => f.write_str("push to the secrets provider"),
            Self::Refresh => f.write_str("refresh the site's ExternalSecret"),
            Self::AwaitExpiry(certificate) => write!(f, "await the end of {certificate}"),
        }
    }
}
