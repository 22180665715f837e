//! What is installed: server builds, client libraries, Python environments, tools. Finds; never installs.
//!
//! Ours are below one folder, which `harness/toolchain/setup.sh` fills: `node_modules/postgresql-<major>-linux-<arch>/native` and
//! `python/<set>`. The distribution's are looked for where Debian puts them and on `PATH`; where both have a major version, the
//! distribution's is taken, since that is the one that people run.

mod builds;
mod closed;
mod libpq;
mod missing;
mod names;
mod openssl;
mod places;
mod postgres;
mod program;
mod python;

use std::path::{Path, PathBuf};

pub use builds::{LibpqBuild, Missing, PostgresBuild, PythonBuild, Tool, Toolchain};
pub use names::{NAUTOBOT_DRIVERS, POSTGRES_DRIVERS, POSTGRES_MAJORS, REDIS_PYTHON_DRIVER};
pub use places::Places;

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
        found.missing = missing::list(&found, places);
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
}

#[cfg(test)]
mod tests;
