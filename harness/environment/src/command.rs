//! Commands that a person runs beside a server: with `kubectl exec`, where the server is a pod.

use super::error::MachineError;
use model::outcome::SkipReason;

/// A command that did not run to its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The program is not there.
    #[error("{0}")]
    Missing(SkipReason),
    /// The machine could not start it, or a file of its arguments could not be brought there.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It could not be started on this machine, or did not end in time.
    #[error("{0}")]
    Failed(String),
}
