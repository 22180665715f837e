//! Commands that a person runs beside a server: with `kubectl exec`, where the server is a pod.

use super::error::MachineError;
use model::outcome::{ErrorKind, SkipReason};
use os::command::RunError;
use os::dial::is_own_failure;

/// A command that did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The program is not there.
    #[error("{0}")]
    Missing(SkipReason),
    /// The machine could not start it, or a file of its arguments could not be brought there.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It could not be started on this machine, or did not end in time.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl CommandError {
    /// What a case reports that ends with this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Machine(error) => error.kind(),
            Self::Run(RunError::TimedOut { .. }) => ErrorKind::Limit,
            Self::Run(RunError::Spawn { source, .. }) if is_own_failure(source) => ErrorKind::Limit,
            Self::Missing(_) | Self::Run(RunError::Spawn { .. }) => ErrorKind::Harness,
        }
    }
}
