//! Commands that a person runs beside a server: with `kubectl exec`, where the server is a pod.

use model::outcome::SkipReason;

/// A command that did not run to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The program is not there.
    #[error("{0}")]
    Missing(SkipReason),
    /// It could not be started, did not end in time, or a file of its arguments could not be brought there.
    #[error("{0}")]
    Failed(String),
}
