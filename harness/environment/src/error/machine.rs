//! What can go wrong with the files and processes of the machine that a server runs on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::AgentError;
use model::outcome::ErrorKind;
use os::child::ChildError;
use os::dial::is_own_failure;
use os::poll::PollTimeout;

/// A machine did not do what a server there needs.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MachineError {
    /// A system call on a file or directory failed.
    #[error("could not {action} {path}: {source}", path = path.display())]
    File {
        /// What was tried with it, to be read on after "could not".
        action: &'static str,
        /// The path on the server's machine.
        path: PathBuf,
        /// What the system call said, there or here.
        source: Arc<io::Error>,
    },
    /// A file of a container was written there, but not its copy here, which `doctor` and people look at.
    #[error("could not keep a copy of {path} as {copy}: {source}", path = path.display(), copy = copy.display())]
    Copy {
        /// The path in the container.
        path: PathBuf,
        /// The path on this machine.
        copy: PathBuf,
        /// What the system call said.
        source: Arc<io::Error>,
    },
    /// A file of a server is to belong to somebody else: only root can give files away.
    #[error("the server's {name} is to belong to {owner}, and only a harness that root runs can give a file away: {harness} runs this one")]
    NotGiven {
        /// The file's name.
        name: String,
        /// `root` or `another user`.
        owner: &'static str,
        /// Who runs the harness.
        harness: String,
    },
    /// A process of this machine could not be started.
    #[error(transparent)]
    Child(Arc<ChildError>),
    /// The agent in a container did not do what it was asked for.
    #[error(transparent)]
    Agent(Arc<AgentError>),
    /// Processes did not stop, or did not end, in time.
    #[error(transparent)]
    Processes(Arc<PollTimeout>),
    /// This machine's loopback interface was to be cut.
    #[error("this machine's loopback interface is everybody's: it can't be cut")]
    Loopback,
    /// The engine killed a container, but its processes are still there.
    #[error("the engine killed its container, and its agent was still there after {limit:?}")]
    Survived {
        /// How long their end was waited for.
        limit: Duration,
    },
    /// The unix socket here that leads to the one in a container could not be opened.
    #[error("no way to the server's unix socket: {source}")]
    UnixForward {
        /// What the agent, or this machine, said.
        source: Arc<AgentError>,
    },
    /// A file of this machine could not be read to bring it to a container.
    #[error("could not bring {path} into the container: {source}", path = path.display())]
    Bring {
        /// The path, here and there.
        path: PathBuf,
        /// What the system call here said.
        source: Arc<io::Error>,
    },
    /// The container itself, or the agent in it.
    #[cfg(feature = "container")]
    #[error(transparent)]
    Container(#[from] super::AgentContainerError),
}

impl MachineError {
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source: Arc::new(source) }
    }

    /// What a case reports that ends with this error where nothing is known of the server itself.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::File { source, .. } | Self::Copy { source, .. } | Self::Bring { source, .. } if is_own_failure(source) => {
                ErrorKind::Limit
            }
            Self::Agent(error) | Self::UnixForward { source: error } => match error.as_ref() {
                AgentError::Connect { .. } | AgentError::Lost { .. } => ErrorKind::Lost,
                AgentError::Slow { .. } => ErrorKind::Limit,
                AgentError::Refused { .. } | AgentError::Local { .. } => ErrorKind::Harness,
            },
            Self::Processes(_) | Self::Survived { .. } => ErrorKind::Limit,
            Self::File { .. } | Self::Copy { .. } | Self::Bring { .. } | Self::NotGiven { .. } | Self::Child(_) | Self::Loopback => {
                ErrorKind::Harness
            }
            #[cfg(feature = "container")]
            Self::Container(_) => ErrorKind::Lost,
        }
    }
}

impl From<ChildError> for MachineError {
    fn from(error: ChildError) -> Self {
        Self::Child(Arc::new(error))
    }
}

impl From<AgentError> for MachineError {
    fn from(error: AgentError) -> Self {
        Self::Agent(Arc::new(error))
    }
}

impl From<PollTimeout> for MachineError {
    fn from(timeout: PollTimeout) -> Self {
        Self::Processes(Arc::new(timeout))
    }
}
