//! What a client has no way to do.

use model::connect::TlsVersion;

/// A client can't do what a request asks for: nothing was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnableError {
    /// The driver has no [`Driver::open`](crate::Driver::open).
    #[error("it keeps no session open")]
    NoSessions,
    /// Its program did not announce that it keeps sessions.
    #[error("its program keeps no session open: its greeting lacks `\"sessions\":true` (see harness/clients/PROTOCOL.md)")]
    SessionsNotAnnounced,
    /// The request has environment variables, which only a client that loads a configuration file reads.
    #[error("it reads no nautobot_config.py, whose variables `env` gives")]
    NoConfigurationFile,
    /// The request is for PostgreSQL, and the client is one for Redis.
    #[error("it connects to Redis only; use rustls or libpq for PostgreSQL")]
    RedisOnly,
    /// The request is for Redis, and the client is one for PostgreSQL.
    #[error("it connects to PostgreSQL only; use redis-rs or redis-py for Redis")]
    PostgresOnly,
    /// The request names a unix socket.
    #[error("it connects by TCP only")]
    TcpOnly,
    /// `replication=true` of libpq.
    #[error("tokio-postgres opens no session of streaming replication")]
    Replication,
    /// The request's lowest or highest version is one that rustls was never able to speak.
    #[error("rustls has no {name}: it speaks TLSv1.2 and TLSv1.3 only", name = .0.name())]
    TlsVersion(TlsVersion),
    /// The image of the clients' container lacks the Python package.
    #[error("the clients' image has no Python with {client} ({release}): name another with --image")]
    NotInImage {
        /// The Python package: `psycopg2` or `redis-py`.
        client: String,
        /// The name of the image's operating system.
        release: String,
    },
    /// The driver's name has the form of one that runs in the clients' container, but no client goes by it.
    #[error("no client of that name runs in a container")]
    NotForContainers,
    /// The client itself says what it can't do: its own words.
    #[error("{0}")]
    Reported(String),
}
