//! Why a server can't be used any more.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::MachineError;

/// What ended a server's use. What cases saw of it before says nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LostCause {
    /// It ended by itself.
    #[error("it ended with {status}; its last lines: {said}")]
    Ended {
        /// Its exit code, or the signal that ended it.
        status: ExitStatus,
        /// The end of its log, or of its output.
        said: String,
    },
    /// What it writes to its log in a container doesn't come here any more.
    #[error(
        "its log {log} is not brought here any more: the agent in its container is gone, or {copy} can't be written to",
        log = log.display(), copy = copy.display()
    )]
    Log {
        /// The path in the container.
        log: PathBuf,
        /// The path on this machine.
        copy: PathBuf,
    },
    /// Some of its processes may have been stopped.
    #[error("it could not be paused: {0}")]
    Pause(#[source] MachineError),
    /// Some of its processes may still be stopped.
    #[error("it could not be resumed: {0}")]
    Resume(#[source] MachineError),
    /// Some of its processes may be left.
    #[error("not all of it ended by SIGKILL: {0}")]
    Kill(#[source] MachineError),
    /// It hangs at its end.
    #[error("it did not stop within {limit:?} of {signal}")]
    Stop {
        /// How long it was waited for.
        limit: Duration,
        /// The signal that should stop it in order.
        signal: Signal,
    },
}
