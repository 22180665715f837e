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

/// The client that loads a `nautobot_config.py`, our file of that name, and the settings of Nautobot that it starts from.
const NAUTOBOT_CLIENT: &str = include_str!("../../../clients/nautobot_client.py");
const NAUTOBOT_CONFIG: &str = include_str!("../../../clients/nautobot_config.py");
const NAUTOBOT_SETTINGS: &str = include_str!("../../../clients/nautobot_settings.py");

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

    /// The client that connects with the settings of a `nautobot_config.py`: this one, or ours.
    ///
    /// # Errors
    /// As [`Self::new`], and if the client's files can't be written.
    pub fn nautobot(build: &PythonBuild, config: Option<&Path>, directory: &Path) -> Result<Self, DriverError> {
        let name = build.driver.as_str();
        let mut args = nautobot_client(config, &directory.join(format!("{name}-client"))).map_err(|(path, error)| DriverError::Start {
            driver: name.to_owned(),
            reason: format!("could not make {}: {error}", path.display()),
        })?;
        args.extend(["--driver".into(), name.into()]);
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

/// Reads a `nautobot_config.py` as the client will, and connects nowhere.
///
/// # Errors
/// One line with the place of what is no Python, or why it could not be looked at.
pub fn check_nautobot_config(build: &PythonBuild, config: &Path) -> Result<(), String> {
    let shown = config.display();
    let directory = tempfile::tempdir().map_err(|error| format!("{shown}: could not be checked: {error}"))?;
    let args = nautobot_client(Some(config), directory.path())
        .map_err(|(path, error)| format!("{shown}: could not be checked: {}: {error}", path.display()))?;
    let run = std::process::Command::new(&build.interpreter).args(args).arg("--check").stdin(std::process::Stdio::null()).output();
    let output = run.map_err(|error| format!("{shown}: could not be checked with {}: {error}", build.interpreter.display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Writes the client's files into a folder of their own, and gives the arguments that run it.
fn nautobot_client(config: Option<&Path>, folder: &Path) -> Result<Vec<OsString>, (PathBuf, std::io::Error)> {
    let package = folder.join("stand-in/nautobot");
    let ours = folder.join("nautobot_config.py");
    let script = folder.join("nautobot_client.py");
    std::fs::create_dir_all(package.join("core")).map_err(|error| (package.clone(), error))?;
    for (path, text) in [
        (script.clone(), NAUTOBOT_CLIENT),
        (folder.join("mtls_client.py"), PYTHON_CLIENT),
        (ours.clone(), NAUTOBOT_CONFIG),
        (package.join("__init__.py"), ""),
        (package.join("core/__init__.py"), ""),
        (package.join("core/settings.py"), NAUTOBOT_SETTINGS),
    ] {
        std::fs::write(&path, text).map_err(|error| (path, error))?;
    }
    let config = config.map_or(ours, Path::to_path_buf);
    // -I would keep the script from the module beside it; -s and -E keep the user's site-packages and PYTHON* variables away.
    let stand_in = folder.join("stand-in");
    Ok(["-sEB".into(), script.into_os_string(), "--config".into(), config.into_os_string(), "--stand-in".into(), stand_in.into_os_string()]
        .to_vec())
}

fn make(driver: &str, path: &Path, result: std::io::Result<()>) -> Result<(), DriverError> {
    result.map_err(|error| DriverError::Start { driver: driver.to_owned(), reason: format!("could not make {}: {error}", path.display()) })
}
