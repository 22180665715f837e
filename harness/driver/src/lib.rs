//! Clients: each makes one connection as asked and tells what it saw.

pub mod catalogue;
pub mod classify;
pub mod error;
pub mod exec;
mod held;
pub mod libpq;
mod pipe;
pub mod properties;
pub mod protocol;
pub mod redis;
pub mod rustls;
pub mod served;
pub mod tls;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use agent::ClientContainer;
use model::connect::ConnectRequest;
use model::driver::DriverInfo;
use model::observation::{ClientObservation, Refused};

pub use error::{BrokenError, DriverError, StartError, UnableError};

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

    /// Makes one connection, asks the server for its view of the session, and keeps it. `limit` bounds the whole call.
    ///
    /// # Errors
    /// [`DriverError`] if the client itself failed; [`DriverError::Unable`] if it can't keep sessions.
    async fn open(&self, request: &ConnectRequest, limit: Duration) -> Result<Opened, DriverError> {
        let _ = (request, limit);
        Err(DriverError::unable(&self.info().name, UnableError::NoSessions))
    }

    /// Where its process runs; `None`: on this machine. Requests then name files and a relay of there.
    fn client_container(&self) -> Option<&ClientContainer> {
        None
    }

    /// Ends whatever the driver started.
    async fn close(&self) {}
}

/// What came of [`Driver::open`].
pub enum Opened {
    /// A session that is kept, and what was seen while it was opened.
    Session(ClientObservation, Box<dyn HeldSession>),
    /// Refused: the observation tells.
    Refused(ClientObservation),
}

impl Opened {
    /// Closes the session, if there is one, and gives what was seen. Whether it is closed by `deadline` changes nothing.
    pub async fn closed(self, deadline: Instant) -> ClientObservation {
        match self {
            Self::Session(observation, session) => {
                let _ = timeout_at(deadline, session.close()).await;
                observation
            }
            Self::Refused(observation) => observation,
        }
    }
}

/// A session that stays open. Dropping it closes it, if not always at once.
#[async_trait]
pub trait HeldSession: Send {
    /// Asks the server something small (`SELECT 1`, `PING`). After [`Queried::Ended`] the session is of no more use.
    ///
    /// # Errors
    /// [`DriverError`] if the client itself failed.
    async fn query(&mut self, limit: Duration) -> Result<Queried, DriverError>;

    /// Closes it in order, and waits for that.
    async fn close(self: Box<Self>);
}

/// How a query of a held session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queried {
    /// The server gave a result: the session goes on.
    Answered,
    /// The session is over: in the client's words, with the class, at [`Stage::Query`](model::refusal::Stage::Query).
    Ended(Refused),
}

/// A driver that is known by name, found or not.
#[derive(Clone)]
pub enum Known {
    /// Installed here: it can be asked to connect.
    Found(Arc<dyn Driver>),
    /// Part of the toolchain, but not installed here: its name, and what it costs and what brings it.
    Missing(DriverInfo, String),
}
