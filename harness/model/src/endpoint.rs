//! Where a client connects, as environments give it and drivers take it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The transport address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Address {
    /// TCP; libpq's `hostaddr` and `port`.
    Tcp(SocketAddr),
    /// The directory of a PostgreSQL unix socket and the port number in its name.
    Unix {
        /// The directory that holds the socket, as libpq's `host` takes it.
        directory: PathBuf,
        /// The number in `.s.PGSQL.<port>`.
        port: u16,
    },
}

/// One server as a client names and reaches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The host name that the client asks for: SNI and host name verification use it.
    pub host: String,
    /// Where the packets go; never resolved by name.
    pub address: Address,
}
