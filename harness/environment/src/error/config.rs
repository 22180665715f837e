//! Why the files of a server can't be said.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use deployment::redis_conf::RedisConfigError;
use model::change::Target;
use model::credential::SecretFile;
use model::network::NoNetwork;
use pki::PkiError;

/// The manifests, or a scenario's server, ask for what no file of a server can hold.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigError {
    /// A credential by that name does not exist, or could not be issued.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The scenario's server has what only PostgreSQL takes, or there is no redis.conf.
    #[error(transparent)]
    Redis(#[from] RedisConfigError),
    /// A line of the deployment's pg_hba.conf names a network that is not there.
    #[error(transparent)]
    Network(#[from] NoNetwork),
    /// PostgreSQL is rendered from CloudNativePG's Cluster.
    #[error("the manifests have no Cluster")]
    NoCluster,
    /// The Secret that the Cluster names for its server is written by nothing.
    #[error("no Certificate writes the Cluster's serverTLSSecret")]
    NoServerSecret,
    /// There is no ConfigMap with a redis.conf, or no Secret in its workload.
    #[error("the manifests have no Redis")]
    NoRedis,
    /// A file that was issued can't be read again.
    #[error("could not read {path}: {source}", path = path.display())]
    Read {
        /// A certificate or revocation list in the run's directory.
        path: PathBuf,
        /// What the system call said.
        source: Arc<io::Error>,
    },
    /// A Secret lacks a key that the server needs.
    #[error("`{identity}` has no {file}", file = file.file_name())]
    NoFile {
        /// The name of the identity, or of the Secret.
        identity: String,
        /// The key that it lacks.
        file: SecretFile,
    },
    /// Certificates were asked for something that is no server of this installation.
    #[error("{0} has no files of a server here")]
    NoServer(Target),
}
