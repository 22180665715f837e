//! What is installed: server builds, client libraries, Python environments, tools. Finds; never installs.
//!
//! Ours are below one folder, which `harness/toolchain/setup.sh` fills: `node_modules/postgresql-<major>-linux-<arch>/native` and
//! `python/<set>`. The distribution's are looked for where Debian puts them and on `PATH`; where both have a major version, the
//! distribution's is taken, since that is the one that people run.

mod libpq;
mod missing;
mod openssl;
mod places;
mod postgres;
mod program;
mod python;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use places::Places;

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
    /// The shared library.
    pub library: PathBuf,
    /// `distribution`, `toolchain` or `psycopg2-binary wheel`; `image` where another machine told of it.
    #[serde(skip, default = "elsewhere")]
    pub origin: &'static str,
}

/// A Python interpreter with one of our requirement sets installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PythonBuild {
    /// The driver's name: `psycopg2-2.9.10`, `psycopg2-2.9.12`, `redis-py`, or one of [`NAUTOBOT_DRIVERS`].
    pub driver: String,
    /// The interpreter of the private virtual environment.
    pub interpreter: PathBuf,
}

/// A program and what it says of its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tool {
    /// Its path.
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
}

/// Everything that was looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Server builds by major version: at most one each, the distribution's before ours.
    pub postgres: Vec<PostgresBuild>,
    /// libpq builds.
    pub libpq: Vec<LibpqBuild>,
    /// Python environments.
    pub python: Vec<PythonBuild>,
    /// `redis-server`.
    pub redis: Option<Tool>,
    /// `haproxy`.
    pub haproxy: Option<Tool>,
    /// `openssl`.
    pub openssl: Option<Tool>,
    /// `pgbench`.
    pub pgbench: Option<Tool>,
    /// What is missing.
    pub missing: Vec<Missing>,
}

/// The origin of what another machine told of.
fn elsewhere() -> &'static str {
    "image"
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

/// The Redis client for Python, which has its home in the newest of the Python environments.
pub const REDIS_PYTHON_DRIVER: &str = "redis-py";

/// The clients that load a `nautobot_config.py`, which share a Python environment.
pub const NAUTOBOT_DRIVERS: [&str; 3] = ["nautobot-django", "nautobot-kombu", "nautobot-redis"];

/// The environment variable that names the folder of our toolchain.
pub const DIRECTORY_VARIABLE: &str = "MTLS_CONFORMANCE_TOOLCHAIN";

impl Toolchain {
    /// Looks below `directory` (ours, `.toolchain` of the repository) and at the distribution's places.
    #[must_use]
    pub fn find(directory: &Path) -> Self {
        Self::find_in(&Places::of_this_machine(directory))
    }

    /// Looks at `places` only.
    #[must_use]
    pub fn find_in(places: &Places) -> Self {
        // Most of the time goes to programs that tell their version: ask them all at once.
        let mut found = std::thread::scope(|scope| {
            let postgres = scope.spawn(|| postgres::find(places));
            let redis = scope.spawn(|| program::redis_server(places));
            let haproxy = scope.spawn(|| program::haproxy(places));
            let openssl = scope.spawn(|| program::openssl(places));
            let pgbench = scope.spawn(|| program::pgbench(places));
            // A thread that panicked found nothing; what it looked for is then listed as missing.
            Self {
                postgres: postgres.join().unwrap_or_default(),
                libpq: libpq::find(places),
                python: python::find(places),
                redis: redis.join().unwrap_or_default(),
                haproxy: haproxy.join().unwrap_or_default(),
                openssl: openssl.join().unwrap_or_default(),
                pgbench: pgbench.join().unwrap_or_default(),
                missing: Vec::new(),
            }
        });
        found.missing = missing::list(&found);
        found
    }

    /// The folder of our toolchain: `$MTLS_CONFORMANCE_TOOLCHAIN`; else the first `.toolchain` in the working directory or a folder
    /// above it; else the first above the executable; else `.toolchain` of the working directory, which need not exist.
    #[must_use]
    pub fn default_directory() -> PathBuf {
        let variable = std::env::var_os(DIRECTORY_VARIABLE).map(PathBuf::from);
        let executable = std::env::current_exe().ok();
        let working = std::env::current_dir().ok();
        places::toolchain_directory(variable, working.as_deref(), executable.as_deref())
    }

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

    /// What a missing piece costs, by its name, which is also the driver's name where it is a driver.
    #[must_use]
    pub fn cost_of(&self, name: &str) -> Option<&str> {
        self.missing.iter().find(|missing| missing.name == name).map(|missing| missing.cost.as_str())
    }
}

#[cfg(test)]
mod tests;
