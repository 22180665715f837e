//! Clients: each makes one connection as asked and tells what it saw.

pub mod catalogue;
pub mod classify;
pub mod exec;
pub mod libpq;
pub mod redis;
pub mod rustls;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::model::connect::ConnectRequest;
use crate::model::driver::DriverInfo;
use crate::model::observation::ClientObservation;

/// A client could not be used at all: nothing is known about the server.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// It could not be started.
    #[error("driver {driver} could not be started: {reason}")]
    Start {
        /// Its name.
        driver: String,
        /// Why, with the log's place.
        reason: String,
    },
    /// It ended or spoke nonsense in the middle of a request.
    #[error("driver {driver} broke off: {reason}")]
    Broken {
        /// Its name.
        driver: String,
        /// What happened, with the log's place.
        reason: String,
    },
    /// It can't do what the request asks for.
    #[error("driver {driver} can't do this: {reason}")]
    Unable {
        /// Its name.
        driver: String,
        /// What it can't do.
        reason: String,
    },
    /// It gave no answer in time.
    #[error("driver {driver} gave no answer within {limit:?}")]
    Hang {
        /// Its name.
        driver: String,
        /// The limit.
        limit: Duration,
    },
}

/// A client. A refused connection is an observation; only a client that can't be used is an error.
#[async_trait]
pub trait Driver: Send + Sync {
    /// What is known of it.
    fn info(&self) -> &DriverInfo;

    /// Makes one connection, asks the server for its view of the session, and closes it. `limit` bounds the whole call.
    ///
    /// # Errors
    /// [`DriverError`] if the client itself failed.
    async fn connect(&self, request: &ConnectRequest, limit: Duration) -> Result<ClientObservation, DriverError>;

    /// Ends whatever the driver started.
    async fn close(&self) {}
}

/// A driver that is known by name, found or not.
#[derive(Clone)]
pub enum Known {
    /// Ready for use.
    Found(Arc<dyn Driver>),
    /// Part of the toolchain, but not installed here: its name, and what it costs and what brings it.
    Missing(DriverInfo, String),
}
