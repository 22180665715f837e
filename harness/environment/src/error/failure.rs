//! A start that failed, before it is known which server it is of.

use std::path::PathBuf;

use super::environment::EnvironmentError;
use super::start::StartCause;

/// Why something could not be prepared or started, and where more is to be read.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) cause: StartCause,
    pub(crate) log: PathBuf,
}

impl Failure {
    pub(crate) fn new(cause: impl Into<StartCause>, log: impl Into<PathBuf>) -> Self {
        Self { cause: cause.into(), log: log.into() }
    }

    /// The same of a server with this name.
    pub(crate) fn at_start_of(self, server: &impl ToString) -> EnvironmentError {
        EnvironmentError::Start { server: server.to_string(), source: Box::new(self.cause), log: self.log }
    }
}
