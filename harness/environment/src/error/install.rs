//! Why an installation could not be made, or changed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::change::Target;
use model::server::ServerKey;
use pki::PkiError;

use super::ConfigError;

/// Why an installation could not be made, before anything of it ran.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InstallError {
    /// The environment's options name no template.
    #[error("this environment was given no manifests")]
    NoManifests,
    /// A timeline asks for something beside its server that there can't be.
    #[error("there is no {0} for it")]
    NoPart(Target),
    /// Credentials by name are those of servers that cases share: an installation issues its own.
    #[error("`{0}` of a scenario's server has no meaning for a timeline: change the deployment's own Secrets")]
    NamedCredential(&'static str),
    /// A change before its servers start could not be made.
    #[error("set-up `{change}`: {source}")]
    SetUp {
        /// The change in a timeline's words.
        change: String,
        /// What was tried and found.
        source: ChangeError,
    },
    /// A change before its servers start waits for something that is too far away.
    #[error("set-up `{change}` was not done within {limit:?}; `--timeout` gives it more time")]
    SetUpLimit {
        /// The change in a timeline's words.
        change: String,
        /// The time for the whole set-up.
        limit: Duration,
    },
    /// The first files could not be said or issued.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The directory that it is in could not be made.
    #[error("could not make {path}: {source}", path = path.display())]
    Directory {
        /// A directory below the run's.
        path: PathBuf,
        /// What the system call said.
        source: Arc<io::Error>,
    },
    /// Nothing that clients could mount is in the manifests.
    #[error(
        "no Certificate of the manifests has the usage `client auth` and the common name `{user}`: there is nothing for clients to mount"
    )]
    NoClientCertificate {
        /// The application's user, whom the rule `cert` wants there.
        user: String,
    },
}

impl InstallError {
    pub(crate) fn directory(path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Directory { path, source: Arc::new(source) }
    }
}

impl From<ConfigError> for InstallError {
    fn from(error: ConfigError) -> Self {
        Self::Change(error.into())
    }
}

/// Why a change of an installation could not be made. Nothing has changed then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ChangeError {
    /// There is no such Certificate or Secret, or the change contradicts it.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// What the servers' files should hold could not be said.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A patch of the Cluster names a field that it does not have.
    #[error(
        "`{0}` is no field of the Cluster's spec.certificates: there are serverTLSSecret, serverCASecret, clientCASecret and \
         replicationTLSSecret"
    )]
    NoField(String),
    /// The operator was to do something for a Redis.
    #[error("an installation of {0} has no Cluster: nothing for the operator to do")]
    NoCluster(ServerKey),
    /// Redis was to get what it does not have.
    #[error("{0} has neither pg_hba.conf nor a revocation list: only PostgreSQL has")]
    OnlyPostgres(ServerKey),
    /// A change of what runs stands where nothing does.
    #[error("nothing runs yet: it belongs into a phase")]
    NothingRuns,
    /// The manifests have no folder `site`, or no ExternalSecret in it.
    #[error("the manifests have no ExternalSecret for a site (in their folder `site`)")]
    NoExternalSecret,
    /// The site's ExternalSecret does not say where a file of its Secret comes from.
    #[error("the ExternalSecret `{0}` takes certificate and key, or the CA, from no credential")]
    NoCredential(String),
    /// A Secret did not get into what a pod mounts.
    #[error("the mount of {secret} could not be written: {source}")]
    Mount {
        /// Whose Secret it is.
        secret: String,
        /// What the system call said.
        source: Arc<io::Error>,
    },
    /// It has no such part to change.
    #[error(transparent)]
    Missing(#[from] MissingPart),
}

/// A part of an installation that it does not have.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MissingPart {
    /// Its service has no such server, or the timeline didn't ask for it.
    #[error("an installation of {key} has no server `{target}`: it has {known}")]
    Server {
        /// The key that the installation was made for.
        key: ServerKey,
        /// The server that was to be changed.
        target: Target,
        /// Its servers, separated by commas.
        known: String,
    },
    /// The timeline didn't ask for a site.
    #[error("this installation of {0} has no site: ask for one (`with`)")]
    Site(ServerKey),
    /// The timeline didn't ask for a gateway.
    #[error("an installation of {0} was made without a gateway")]
    Gateway(ServerKey),
}

/// What a server or gateway is doing while a change needs it to do something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrongState {
    /// Its process was stopped or killed.
    Stopped,
    /// Its processes are paused.
    Paused,
    /// It is to be paused a second time.
    PausedAlready,
    /// It is to be resumed, and was not paused.
    NotPaused,
    /// It is to be started a second time.
    Running,
}

impl fmt::Display for WrongState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "is stopped: start it first",
            Self::Paused => "is paused: resume it first",
            Self::PausedAlready => "is paused already",
            Self::NotPaused => "is not paused: there is nothing to resume",
            Self::Running => "runs already",
        })
    }
}
