//! What was found, and what was not: plain data, which an agent also sends from its container.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A PostgreSQL server build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresBuild {
    /// Major version, such as 17.
    pub major: u16,
    /// What `postgres --version` says, such as `17.10`.
    pub version: String,
    /// The directory of `postgres` and `initdb`. Server and libraries find each other from there.
    pub bin: PathBuf,
    /// `distribution` or `toolchain`; the distribution's wins where both have the major version; `image` where
    /// another machine told of it.
    #[serde(skip, default = "elsewhere")]
    pub origin: &'static str,
    /// The OpenSSL it uses, such as `OpenSSL 1.1.1w`, where that can be told.
    pub openssl: Option<String>,
}

/// A libpq that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LibpqBuild {
    /// The driver's name: `libpq-15` ... `libpq-18`, or `libpq-psycopg2-2.9.12` for the one inside that wheel.
    pub driver: String,
    /// The shared library, as it is given to dlopen(3): a `libpq.so.5`, or a wheel's `libpq-<hash>.so`.
    pub library: PathBuf,
    /// `distribution`, `toolchain` or `psycopg2-binary wheel`; `image` where another machine told of it.
    #[serde(skip, default = "elsewhere")]
    pub origin: &'static str,
}

/// A Python interpreter with one of our requirement sets installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonBuild {
    /// The driver's name: `psycopg2-2.9.10`, `psycopg2-2.9.12`, `redis-py`, or one of [`NAUTOBOT_DRIVERS`](super::NAUTOBOT_DRIVERS).
    pub driver: String,
    /// The interpreter of the private virtual environment.
    pub interpreter: PathBuf,
}

/// A program and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// The executable, found on `PATH` or at a place that distributions use.
    pub path: PathBuf,
    /// Version text, such as `7.0.15` or `OpenSSL 3.0.17 1 Jul 2025`.
    pub version: String,
}

/// Something of the toolchain that is not here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Its name: `postgres-18`, `libpq-18`, `psycopg2-2.9.10`, `redis`, `haproxy`, `openssl`, `pgbench`.
    pub name: String,
    /// What can't be exercised without it, and what brings it, in one line.
    pub cost: String,
    /// It is there, or could be, and this user may not read or execute it; `cost` says what is closed.
    #[serde(default)]
    pub closed: bool,
}

/// Everything that was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Server builds by major version: at most one each, the distribution's before ours.
    pub postgres: Vec<PostgresBuild>,
    /// libpq builds, one a driver: the distribution's before ours of the same major version, then those inside the wheels.
    pub libpq: Vec<LibpqBuild>,
    /// Python environments, one entry a driver: several drivers may share an interpreter.
    pub python: Vec<PythonBuild>,
    /// The Redis server; `None` where no `redis-server` tells its version.
    pub redis: Option<Tool>,
    /// HAProxy, for cases that go through the gateway.
    pub haproxy: Option<Tool>,
    /// The command line tool, for cases that run the documented openssl commands.
    pub openssl: Option<Tool>,
    /// PostgreSQL's benchmark, which only `make bench` uses.
    pub pgbench: Option<Tool>,
    /// What a full toolchain has and this one has not; empty for one that an agent found in its container.
    pub missing: Vec<Missing>,
}

impl Toolchain {
    /// The server build of a major version.
    #[must_use]
    pub fn postgres(&self, major: u16) -> Option<&PostgresBuild> {
        self.postgres.iter().find(|build| build.major == major)
    }

    /// The libpq of a driver's name.
    #[must_use]
    pub fn libpq(&self, driver: &str) -> Option<&LibpqBuild> {
        self.libpq.iter().find(|build| build.driver == driver)
    }

    /// The Python environment of a driver's name.
    #[must_use]
    pub fn python(&self, driver: &str) -> Option<&PythonBuild> {
        self.python.iter().find(|build| build.driver == driver)
    }

    /// A missing piece by its name, which is also the driver's name where it is a driver.
    #[must_use]
    pub fn missing(&self, name: &str) -> Option<&Missing> {
        self.missing.iter().find(|missing| missing.name == name)
    }
}

/// The origin of what another machine told of.
fn elsewhere() -> &'static str {
    "image"
}
