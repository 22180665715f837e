//! How a client program is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::DriverError;
use crate::driver::libpq;
use crate::os::child::{ChildSpec, Pipes};
use crate::os::toolchain::{LibpqBuild, PythonBuild};

/// The Python client's source, so that an installed harness needs no repository.
const PYTHON_CLIENT: &str = include_str!("../../../clients/mtls_client.py");

/// The time for a program to greet: an interpreter that loads a TLS library on a busy machine takes a while.
const HELLO_LIMIT: Duration = Duration::from_secs(20);

/// A program to start, and what is expected of it.
#[derive(Debug, Clone)]
pub struct Program {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its environment, besides `PATH` and `LANG`: libpq and OpenSSL read options from variables, so nothing of ours is inherited.
    pub env: BTreeMap<String, OsString>,
    /// Where its standard error goes.
    pub log: PathBuf,
    /// The name that its greeting must give.
    pub name: String,
    /// How long it may take to greet.
    pub hello_limit: Duration,
}

impl Program {
    /// A program of the user's own. `directory` is the run's: the log and an empty home directory go there (libpq would otherwise find
    /// certificates and passwords in the user's).
    ///
    /// # Errors
    /// [`DriverError::Start`] if the home directory can't be made.
    pub fn new(program: &Path, args: &[OsString], name: &str, directory: &Path) -> Result<Self, DriverError> {
        let home = directory.join("empty-home");
        make(name, &home, std::fs::create_dir_all(&home))?;
        Ok(Self {
            program: program.to_path_buf(),
            args: args.to_vec(),
            env: BTreeMap::from([("HOME".to_owned(), home.into_os_string())]),
            log: directory.join(format!("{name}.log")),
            name: name.to_owned(),
            hello_limit: HELLO_LIMIT,
        })
    }

    /// The harness's own binary, `harness`, with a libpq loaded.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn libpq(harness: &Path, build: &LibpqBuild, directory: &Path) -> Result<Self, DriverError> {
        let name = build.driver.as_str();
        let args = [libpq::COMMAND.into(), "--library".into(), build.library.clone().into_os_string(), "--name".into(), name.into()];
        Self::new(harness, &args, name, directory)
    }

    /// The Python client, running psycopg2 or redis-py as the build's driver name says (`redis-py...` is the latter).
    ///
    /// # Errors
    /// As [`Self::new`], and if the client's file can't be written.
    pub fn python(build: &PythonBuild, directory: &Path) -> Result<Self, DriverError> {
        let name = build.driver.as_str();
        let script = directory.join(format!("{name}-client.py"));
        make(name, &script, std::fs::write(&script, PYTHON_CLIENT))?;
        let driver = if name.starts_with("redis-py") { "redis-py" } else { "psycopg2" };
        // -I: neither the user's site-packages nor PYTHON* variables nor the script's directory. -B: no bytecode beside the packages.
        let args = ["-IB".into(), script.into_os_string(), "--driver".into(), driver.into(), "--name".into(), name.into()];
        Self::new(&build.interpreter, &args, name, directory)
    }

    pub(super) fn child(&self) -> ChildSpec {
        let mut spec = ChildSpec::new(&self.program, &self.log);
        spec.args.clone_from(&self.args);
        spec.env.clone_from(&self.env);
        spec.pipes = Pipes::Lines;
        spec
    }

    pub(super) fn start_error(&self, reason: impl std::fmt::Display) -> DriverError {
        DriverError::Start { driver: self.name.clone(), reason: format!("`{}`: {reason}", self.child().command_line()) }
    }
}

fn make(driver: &str, path: &Path, result: std::io::Result<()>) -> Result<(), DriverError> {
    result.map_err(|error| DriverError::Start { driver: driver.to_owned(), reason: format!("could not make {}: {error}", path.display()) })
}
