//! Why a client could not be used at all, by cause. A refused connection is no error but an observation.

mod broken;
mod program;
mod start;
mod unable;

use std::sync::Arc;
use std::time::Duration;

use model::outcome::ErrorKind;

pub use broken::{BrokenError, ExchangeError};
pub use program::ProgramEnd;
pub use start::{GreetingError, SpawnError, StartError};
pub use unable::UnableError;

/// A client could not be used at all: nothing is known about the server.
///
/// Causes are shared, since the end of one program is the error of every request that it was given.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriverError {
    /// Its program does not run, or is not the one that was expected.
    #[error("driver {driver} could not be started: {source}")]
    Start {
        /// What scenarios call the driver.
        driver: String,
        /// What was tried, with the place and the end of the log.
        source: Arc<StartError>,
    },
    /// It ended or spoke nonsense in the middle of a request.
    #[error("driver {driver} broke off: {source}")]
    Broken {
        /// What scenarios call the driver.
        driver: String,
        /// What happened, with the place and the end of the log where a program was lost.
        source: Arc<BrokenError>,
    },
    /// It has no way to do what the request asks for, and tried nothing. A case that asks for it is skipped.
    #[error("driver {driver} can't do this: {source}")]
    Unable {
        /// What scenarios call the driver.
        driver: String,
        /// What it can't do.
        source: UnableError,
    },
    /// It gave no answer in time, not even that its own time limit was over.
    #[error("driver {driver} gave no answer within {limit:?}")]
    Hang {
        /// What scenarios call the driver.
        driver: String,
        /// The request's limit, and what was added to it for the answer to arrive.
        limit: Duration,
    },
}

impl DriverError {
    /// [`Self::Start`] of the driver with this name.
    pub fn start(driver: impl Into<String>, cause: impl Into<Arc<StartError>>) -> Self {
        Self::Start { driver: driver.into(), source: cause.into() }
    }

    /// [`Self::Broken`] of the driver with this name.
    pub fn broken(driver: impl Into<String>, cause: impl Into<Arc<BrokenError>>) -> Self {
        Self::Broken { driver: driver.into(), source: cause.into() }
    }

    /// [`Self::Unable`] of the driver with this name.
    pub fn unable(driver: impl Into<String>, cause: UnableError) -> Self {
        Self::Unable { driver: driver.into(), source: cause }
    }

    /// What a case reports that ends with this error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Start { .. } | Self::Broken { .. } | Self::Unable { .. } => ErrorKind::Client,
            Self::Hang { .. } => ErrorKind::Limit,
        }
    }
}
