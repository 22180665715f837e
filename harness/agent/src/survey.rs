//! What is in an agent's container.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use os::toolchain::Toolchain;
use os::user::RunAs;

/// What an agent finds around itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// Servers and programs: what the distribution's places and `PATH` have. Nothing is listed as missing.
    pub toolchain: Toolchain,
    /// Python, if there is one.
    pub python: Option<Python>,
    /// The users that servers may run as, the best first: `postgres`, the user of CloudNativePG's images, `redis`, `nobody`. Empty where
    /// the agent itself is not root: servers then run as its user.
    pub users: Vec<RunAs>,
    /// The addresses of the container's network interfaces, loopback aside.
    pub interfaces: Vec<Interface>,
    /// The name of the operating system's release, for messages: `Debian GNU/Linux 13 (trixie)`.
    pub release: String,
}

impl Survey {
    /// The user that servers run as; `None`: the agent's own.
    #[must_use]
    pub fn run_as(&self) -> Option<&RunAs> {
        self.users.first()
    }

    /// One of the users, by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&RunAs> {
        self.users.iter().find(|user| user.name == name)
    }
}

/// An address of a network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, such as `eth0`.
    pub name: String,
    /// An IPv4 or IPv6 address that it has; an interface with several is listed once for each.
    pub address: IpAddr,
}

/// A Python and the clients that it can import.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Python {
    /// The absolute path of the first `python3` on the agent's `PATH`.
    pub interpreter: PathBuf,
    /// Its version, such as `3.13.5`.
    pub version: String,
    /// The version of psycopg2, such as `2.9.10`, if it can be imported.
    pub psycopg2: Option<String>,
    /// The version of redis-py, if it can be imported.
    pub redis: Option<String>,
}
