//! What can go wrong when the harness asks a PostgreSQL as its superuser.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A PostgreSQL gave no answer over its private unix socket.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AskError {
    /// The socket is not there, or nobody listens.
    #[error("its unix socket can't be connected: {0}")]
    Connect(#[source] Arc<io::Error>),
    /// The session was refused or ended, or the server has something against the statement.
    #[error("{0}{cause}", cause = cause(.0))]
    Session(#[source] Arc<tokio_postgres::Error>),
    /// The socket was connected, and nothing came in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// Backends were told to end, and go on.
    #[error("the backends {pids} did not end within {limit_ms} ms")]
    Backends {
        /// Their process ids, separated by commas.
        pids: String,
        /// How long their end was waited for, in milliseconds.
        limit_ms: u32,
    },
}

/// The library's own text leaves its cause out: what the server said.
fn cause(error: &tokio_postgres::Error) -> String {
    error.source().map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl AskError {
    /// Whether the server is stopped, or about to start or stop; otherwise it has something against the statement.
    pub(crate) fn is_away(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            // Without a code the server said nothing; 57P01 to 57P03 are said when it stops and starts.
            Self::Session(error) => error.code().is_none_or(|code| code.code().starts_with("57P0")),
            Self::Silent(_) | Self::Backends { .. } => false,
        }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        Self::Connect(Arc::new(error))
    }
}

impl From<tokio_postgres::Error> for AskError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Session(Arc::new(error))
    }
}

/// What the harness's superuser was to do, and could not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdminError {
    /// The application's role was to get the deployment's name and this run's password.
    #[error("role {user} could not be given its name and password over the unix socket: {source}")]
    Application {
        /// The role's name in the deployment.
        user: String,
        /// What came of it.
        source: AskError,
    },
    /// The clients' backends were to end.
    #[error("the sessions of clients could not be ended: {0}")]
    Sessions(#[source] AskError),
    /// The replicas' connections were to end.
    #[error("the WAL senders could not be ended: {0}")]
    WalSenders(#[source] AskError),
}
