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
    /// The (primary) PostgreSQL.
    Postgres,
    /// The PostgreSQL that streams from it.
    Replica,
    /// Redis.
    Redis,
    /// The Secret that the global cluster's pods mount.
    Client,
    /// The Secret that a site's pods mount, made from the secrets provider.
    Site,
    /// The TLS-passthrough gateway.
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

/// One change. Each returns when it is done; what follows from it (a mount's refresh, a reload) is a change of its own, so that a scenario
/// says in which order things happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub enum Change<T> {
    /// cert-manager issues a Certificate again for the key that it has, and writes its Secret with the issuer's present chain.
    Renew(Reissue<T>),
    /// The same with a new key: what rotationPolicy Always, the default, does at every renewal.
    Rekey(Reissue<T>),
    /// Somebody writes one key of a Secret.
    Overwrite(Overwrite<T>),
    /// Somebody deletes a Secret: cert-manager issues its Certificate again, with a new key.
    DeleteSecret(T),
    /// Somebody sets or drops a label of a Secret.
    Label(Label<T>),
    /// Somebody changes the Cluster object.
    PatchCluster(ClusterPatch<T>),
    /// The operator looks at what changed since its last look: a Secret of the Cluster that has the label `cnpg.io/reload`, or the Cluster
    /// itself, makes it bring the servers' files up to date and reload; anything else it leaves.
    Reconcile,
    /// The files of a target become what the Secrets hold now, and nothing is told to read them: what the kubelet does to a mount.
    Sync(Target),
    /// The target is told to read its files again: SIGHUP; `CONFIG SET` of all its TLS files for Redis.
    Reload(Target),
    /// The target stops and starts again with its files.
    Restart(Target),
    /// The target stops.
    Stop(Target),
    /// The target, stopped before, starts.
    Start(Target),
    /// The server ends the sessions that it has: those of clients; for `replica` the WAL sender.
    Disconnect(Target),
    /// All processes of the server are frozen: its port still takes connections, into the kernel's backlog, and nobody answers. On a
    /// container `docker pause` (the cgroup's freezer), here SIGSTOP.
    Pause(Target),
    /// The server, paused before, goes on where it was: what clients sent meanwhile is answered. `docker unpause`; SIGCONT.
    Resume(Target),
    /// SIGKILL to all processes of the server at once, as where its node is lost: nothing is said to anybody, and nothing is put in order. A
    /// later `start` brings it back; PostgreSQL recovers from its WAL. `docker kill`; here the same signal.
    Kill(Target),
    /// The server's network is gone: packets to it and from it are lost, and nobody is told. `docker network disconnect`. The local
    /// environment can't: its servers are on the loopback interface, which all share.
    Cut(Target),
    /// The server's network, cut before, is back, with the same address. `docker network connect`.
    Mend(Target),
    /// The user's lines of pg_hba.conf are replaced: the file, not what the server has read. They can name networks (`${range:pods}`).
    PgHba(Vec<T>),
    /// A revocation list becomes `ssl_crl_file` in postgresql.conf and in the files: the server takes it at its next reload.
    Crl(CrlOf<T>),
    /// No revocation list any more.
    DropCrl,
    /// The site's certificate, key and CA are copied from the global cluster into the secrets provider.
    Push,
    /// The next refresh of the site's ExternalSecret has taken place, at its interval.
    Refresh,
    /// The end of the Certificate's validity has passed, by this machine's clock.
    AwaitExpiry(T),
}

/// A Certificate to issue again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Reissue<T> {
    /// The Certificate's name.
    pub certificate: T,
    /// Other validity than its `duration` from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity: Option<Validity>,
    /// A JSON merge patch on its `spec`, which stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<serde_json::Value>,
}

/// One key of a Secret, written by hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Overwrite<T> {
    /// The Secret's name.
    pub secret: T,
    /// Which key.
    pub key: SecretFile,
    /// What it holds from now on.
    pub with: Content<T>,
}

/// What somebody writes into a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Content<T> {
    /// The certificates of these Certificates, one after the other: a bundle. `NAME` is the present one, `NAME@1` the first that was
    /// issued, `NAME@2` the second.
    Certificates(Vec<T>),
    /// The same key of another Secret.
    Secret(T),
    /// No PEM.
    Garbage,
    /// Nothing: the key is gone.
    Removed,
}

/// A label of a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct Label<T> {
    /// The Secret's name.
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

/// A revocation list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound(deserialize = "T: Deserialize<'de>"))]
pub struct CrlOf<T> {
    /// The Certificate of the CA that signs it.
    pub issuer: T,
    /// The Certificates whose present certificate is on it.
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
                std::iter::once(issuer).chain(revoked).map(|name| (Named::Certificate, name)).collect()
            }
            Self::AwaitExpiry(certificate) => vec![(Named::Certificate, certificate)],
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
