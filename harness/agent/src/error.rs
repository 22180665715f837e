//! What went wrong between the harness and an agent.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::protocol::Failure;

use os::dial::ForwarderLost;

/// Something that was asked of an agent was not done.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No connection to it can be made.
    #[error(
        "could not reach the agent at {address} to {doing}: {source}; is its container running? its log (`docker logs`) says why it ended"
    )]
    Connect {
        /// Where it was looked for.
        address: SocketAddr,
        /// What it was to do.
        doing: String,
        /// What connect(2) said, or that it took too long.
        source: io::Error,
    },
    /// The connection ended before the answer.
    #[error("the agent at {address} was lost while it was to {doing}: {source}; its container's log (`docker logs`) says why it ended")]
    Lost {
        /// Where it listened, as seen from this machine.
        address: SocketAddr,
        /// What it was to do.
        doing: String,
        /// How it was lost.
        source: io::Error,
    },
    /// It didn't answer in time.
    #[error("the agent at {address} was to {doing} and did not answer within {limit:?}; is its container paused, or its network cut?")]
    Slow {
        /// Where it listens, as seen from this machine.
        address: SocketAddr,
        /// What it was to do.
        doing: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The agent tried, and it could not be done.
    #[error("the agent at {address} was to {doing}: {message}")]
    Refused {
        /// Where it listens, as seen from this machine.
        address: SocketAddr,
        /// What it was to do.
        doing: String,
        /// What it tried, and what the system said to that, in its words.
        message: String,
        /// The system's error number there, where it was a system call that failed.
        errno: Option<i32>,
    },
    /// A file on this side could not be used.
    #[error("could not {action} {path}: {source}", path = path.display())]
    Local {
        /// What was tried with it, to be read on after "could not".
        action: &'static str,
        /// The file on this machine.
        path: PathBuf,
        /// What the system call said.
        source: io::Error,
    },
}

impl AgentError {
    /// The system's error number in the container, where a system call failed there: `ENOENT` for a file that is missing.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => *errno,
            _ => None,
        }
    }

    /// The error that a connection attempt ends with: the system's own where connect(2) or bind(2) failed in the container, so that
    /// [`is_own_failure`](os::dial::is_own_failure) knows it, and likewise where this machine has no resources left to
    /// reach the agent. An agent that does not answer is a lost forwarder, which it knows too. Anything else is no system's error: the
    /// [`AgentError`] itself, with its kind.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Refused { errno: Some(errno), .. } => return io::Error::from_raw_os_error(*errno),
            Self::Connect { source, .. } if os::dial::is_own_failure(source) => {
                return source.raw_os_error().map_or_else(|| io::Error::other(self), io::Error::from_raw_os_error);
            }
            Self::Connect { source, .. } | Self::Lost { source, .. } => return io::Error::new(source.kind(), ForwarderLost(self.into())),
            Self::Slow { .. } => return io::Error::new(io::ErrorKind::TimedOut, ForwarderLost(self.into())),
            Self::Local { source, .. } => source.kind(),
            Self::Refused { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }

    pub(super) fn refused(address: SocketAddr, doing: String, failure: Failure) -> Self {
        Self::Refused { address, doing, message: failure.message, errno: failure.errno }
    }
}
