//! What is installed: server builds, client libraries, Python environments, tools. Finds; never installs.

use std::path::{Path, PathBuf};

/// A PostgreSQL server build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBuild {
    /// Major version, such as 17.
    pub major: u16,
    /// What `postgres --version` says, such as `17.10`.
    pub version: String,
    /// The directory of `postgres` and `initdb`.
    pub bin: PathBuf,
    /// `distribution` or `toolchain`.
    pub origin: &'static str,
    /// The OpenSSL it uses, such as `OpenSSL 1.1.1w`, where that can be told.
    pub openssl: Option<String>,
}

/// A libpq that can be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibpqBuild {
    /// The driver's name: `libpq-15` ... `libpq-18`, or `libpq-psycopg2-2.9.12` for the one inside that wheel.
    pub driver: String,
    /// The shared library.
    pub library: PathBuf,
    /// `distribution`, `toolchain` or `psycopg2-binary wheel`.
    pub origin: &'static str,
}

/// A Python interpreter with one of our requirement sets installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonBuild {
    /// The driver's name: `psycopg2-2.9.10`, `psycopg2-2.9.12`, `redis-py`.
    pub driver: String,
    /// The interpreter of the private virtual environment.
    pub interpreter: PathBuf,
}

/// A program and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its path.
    pub path: PathBuf,
    /// Version text, such as `7.0.15` or `OpenSSL 3.0.17 1 Jul 2025`.
    pub version: String,
}

/// Something of the toolchain that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name: `postgres-18`, `libpq-18`, `psycopg2-2.9.10`, `redis`, `openssl`, `pgbench`.
    pub name: String,
    /// What can't be exercised without it, and what brings it, in one line.
    pub cost: String,
}

/// Everything that was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Toolchain {
    /// Server builds by major version: at most one each, the distribution's before ours.
    pub postgres: Vec<PostgresBuild>,
    /// libpq builds.
    pub libpq: Vec<LibpqBuild>,
    /// Python environments.
    pub python: Vec<PythonBuild>,
    /// `redis-server`.
    pub redis: Option<Tool>,
    /// `openssl`.
    pub openssl: Option<Tool>,
    /// `pgbench`.
    pub pgbench: Option<Tool>,
    /// What is missing.
    pub missing: Vec<Missing>,
}

/// PostgreSQL major versions that the harness knows, oldest first.
pub const POSTGRES_MAJORS: [u16; 4] = [15, 16, 17, 18];

/// Drivers of PostgreSQL that a full toolchain has, `rustls` aside.
pub const POSTGRES_DRIVERS: [&str; 8] = [
    "libpq-15",
    "libpq-16",
    "libpq-17",
    "libpq-18",
    "libpq-psycopg2-2.9.10",
    "libpq-psycopg2-2.9.12",
    "psycopg2-2.9.10",
    "psycopg2-2.9.12",
];

impl Toolchain {
    /// Looks below `directory` (ours, `.toolchain` of the repository) and at the distribution's places.
    #[must_use]
    pub fn find(directory: &Path) -> Self {
        let _ = directory;
        Self::default()
    }
}
