//! Why a running server did not take a configuration.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redis::RedisError;

use super::{AdminError, ConfigError, MachineError, StartCause};

/// Why a server does not have the configuration that it was to have, or did not end its clients' connections.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ConfigureCause {
    /// What its files should hold could not be said.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its files could not be written.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It did not come up again with it.
    #[error(transparent)]
    Start(#[from] StartCause),
    /// It has something against its files, and goes on with those that it had: its own words.
    #[error("{0}")]
    Objection(String),
    /// Its log tells of no reload.
    #[error("its log said nothing of the reload within {limit:?}")]
    Silent {
        /// How long it was waited for.
        limit: Duration,
    },
    /// The connection that shows the end of a reload was not taken.
    #[error("it took no connection at {address} after the reload: {source}")]
    NoConnection {
        /// The address at which clients find the server.
        address: SocketAddr,
        /// What connect(2) said.
        source: Arc<io::Error>,
    },
    /// wait(2) failed for its process.
    #[error("it could not be waited for: {0}")]
    Wait(#[source] Arc<io::Error>),
    /// PostgreSQL did not do what the harness's superuser asked for.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// No session with Redis.
    #[error("it could not be asked over its unix socket: {0}")]
    RedisSession(#[source] Arc<RedisError>),
    /// The socket was connected, and Redis did not answer in time.
    #[error("it could not be asked over its unix socket: no answer within {limit:?}")]
    RedisSilent {
        /// How long it was waited for.
        limit: Duration,
    },
    /// Redis closed the session in the middle of a command.
    #[error("it broke off at CONFIG SET: {0}")]
    BrokeOff(#[source] Arc<RedisError>),
    /// Redis refused `CLIENT KILL`.
    #[error("it did not end its clients' connections: {0}")]
    Disconnect(#[source] Arc<RedisError>),
}
