//! The error of everything that an environment does.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::outcome::{ErrorKind, SkipReason};
use model::server::ServerKey;
use os::dial::is_own_failure;

#[cfg(feature = "container")]
use super::{AgentContainerError, ImageError};
use super::{
    AskError, ChangeError, ConfigureCause, InstallError, LostCause, MachineError, MissingPart, NotInstalled, StartCause, WrongState,
};
#[cfg(feature = "container")]
use crate::container::engine::EngineError;

/// The environment failed: nothing is known about the server's behaviour.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EnvironmentError {
    /// A server did not come up.
    #[error("{server} did not start: {source}; its log: {log}", log = log.display())]
    Start {
        /// The server's key, or the gateway's name.
        server: String,
        /// What was tried and found.
        source: Box<StartCause>,
        /// The file that tells more: its log, its output, or that of the program which prepares it.
        log: PathBuf,
    },
    /// A configuration could not be applied.
    #[error("{server} did not take its configuration: {source}; its log: {log}", log = log.display())]
    Configure {
        /// Its key, such as `postgres-17-documented`.
        server: String,
        /// What was tried and found.
        source: Box<ConfigureCause>,
        /// The file that it writes its log to.
        log: PathBuf,
    },
    /// A server ended or hung while it was in use.
    #[error("{server} is no longer usable: {source}; its log: {log}", log = log.display())]
    Lost {
        /// The server's key, or the gateway's name.
        server: String,
        /// How that is known.
        source: Box<LostCause>,
        /// The file that it wrote its log to, or its output where there is nothing in its log.
        log: PathBuf,
    },
    /// The system gives no randomness.
    #[error("could not make a {what} for this run from /dev/urandom: {source}")]
    Random {
        /// What it was for: `password`, `token`.
        what: &'static str,
        /// What the system call said.
        source: Arc<io::Error>,
    },
    /// A server's program, or its image, is not there.
    #[error(transparent)]
    NotInstalled(#[from] NotInstalled),
    /// A server or installation was asked for after [`Environment::close`](crate::Environment::close).
    #[error("{0} was asked for after the environment was closed")]
    Closed(ServerKey),
    /// The environment was closed while a server started, or its start panicked.
    #[error("the start of {0} was broken off")]
    BrokenOff(ServerKey),
    /// A gateway can't know where to lead clients.
    #[error("the manifests have no TLSRoute that leads to {0}")]
    NoRoute(ServerKey),
    /// An installation could not be made.
    #[error("{key} can't be installed: {source}")]
    Install {
        /// The server that it should be of.
        key: ServerKey,
        /// What was tried and found.
        source: InstallError,
    },
    /// A change of an installation could not be made.
    #[error("`{change}` could not be done: {source}")]
    Change {
        /// The change in a timeline's words.
        change: String,
        /// What was tried and found.
        source: ChangeError,
    },
    /// An installation lacks what was to be changed.
    #[error(transparent)]
    Missing(#[from] MissingPart),
    /// A timeline's change does not fit what the changes before it have left.
    #[error("{what} {state}")]
    State {
        /// A server's key, or `the gateway`.
        what: String,
        /// What it is doing.
        state: WrongState,
    },
    /// A gateway has no files that change.
    #[error("`{0}`: a gateway can be stopped, started and restarted")]
    NotForGateways(String),
    /// A change reached what can't make it: a defect of the harness.
    #[error("`{0}` is no change of what runs")]
    NoChange(String),
    /// A server of an installation was asked to take a case's configuration.
    #[error("this {0} belongs to an installation: it is changed by the installation's changes only")]
    NotConfigurable(ServerKey),
    /// `CONFIG SET` of this version takes one setting at a time, so that certificate and key would not belong together in between.
    #[error("Redis {version} can't take its TLS files at once: from 7.0 on it can")]
    OldRedis {
        /// What `redis-server --version` says.
        version: String,
    },
    /// A fault, or the end of one, could not be made.
    #[error("{what} could not be {action}: {source}")]
    Fault {
        /// A server's key, or `the gateway`.
        what: String,
        /// What should have happened to it: `paused`, `cut off`, ...
        action: &'static str,
        /// What was tried and found.
        source: MachineError,
    },
    /// wait(2) failed for a server's process.
    #[error("{server} could not be waited for: {source}")]
    Wait {
        /// Its key, such as `postgres-17-documented`.
        server: ServerKey,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Primary or replica is there, and gives no usable answer.
    #[error("streaming replication could not be looked at: {0}")]
    Replication(#[source] AskError),
    /// Networks could not be made, or the engine is gone.
    #[cfg(feature = "container")]
    #[error(transparent)]
    Engine(Arc<EngineError>),
    /// There is no image at all.
    #[cfg(feature = "container")]
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The container that clients' connections come from did not start.
    #[cfg(feature = "container")]
    #[error(transparent)]
    ClientContainer(#[from] AgentContainerError),
}

impl EnvironmentError {
    /// What a case reports that ends with this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { .. } => ErrorKind::Start,
            Self::Configure { .. } => ErrorKind::Configure,
            Self::Lost { .. } => ErrorKind::Lost,
            Self::Fault { source, .. } => source.kind(),
            Self::Random { source, .. } | Self::Wait { source, .. } if is_own_failure(source) => ErrorKind::Limit,
            Self::Replication(AskError::Silent(_)) | Self::Install { source: InstallError::SetUpLimit { .. }, .. } => ErrorKind::Limit,
            #[cfg(feature = "container")]
            Self::ClientContainer(_) => ErrorKind::Start,
            #[cfg(feature = "container")]
            Self::Engine(_) | Self::Image(_) => ErrorKind::Harness,
            Self::Random { .. }
            | Self::Wait { .. }
            | Self::Replication(_)
            | Self::NotInstalled(_)
            | Self::Closed(_)
            | Self::BrokenOff(_)
            | Self::NoRoute(_)
            | Self::Install { .. }
            | Self::Change { .. }
            | Self::Missing(_)
            | Self::State { .. }
            | Self::NotForGateways(_)
            | Self::NoChange(_)
            | Self::NotConfigurable(_)
            | Self::OldRedis { .. } => ErrorKind::Harness,
        }
    }

    /// Why a case that ends with this error is skipped: this machine lacks something, and nothing has failed. `None`: it is an error.
    #[must_use]
    pub fn skip(&self) -> Option<SkipReason> {
        let machine = match self {
            Self::Start { source, .. } => match source.as_ref() {
                StartCause::Machine(machine) => machine,
                _ => return None,
            },
            Self::Configure { source, .. } => match source.as_ref() {
                ConfigureCause::Machine(machine) => machine,
                _ => return None,
            },
            _ => return None,
        };
        matches!(machine, MachineError::NotGiven { .. }).then(|| SkipReason::MachineLacks(machine.to_string()))
    }

    /// The log that tells more; `None` where there is none.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        match self {
            Self::Start { log, .. } | Self::Configure { log, .. } | Self::Lost { log, .. } => Some(log),
            _ => None,
        }
    }

    /// The same error with its log in another place.
    #[must_use]
    pub fn with_log_at(mut self, place: PathBuf) -> Self {
        if let Self::Start { log, .. } | Self::Configure { log, .. } | Self::Lost { log, .. } = &mut self {
            *log = place;
        }
        self
    }
}
