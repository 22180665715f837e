//! How a client program is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::DriverError;
use crate::libpq;
use crate::served::{self, OwnClient};
use agent::ClientContainer;
use os::child::{ChildSpec, Pipes};
use os::toolchain::{LibpqBuild, PythonBuild};

/// Files of `harness/clients/`: where each lies below that folder, and its text.
macro_rules! client_files {
    ($($path:literal),+ $(,)?) => { &[$(($path, include_str!(concat!("../../../clients/", $path)))),+] };
}

/// The Python clients, so that an installed harness needs no repository.
const CLIENT_FILES: &[(&str, &str)] = client_files![
    "mtls_client.py",
    "mtls_protocol.py",
    "mtls_psycopg2.py",
    "mtls_redis_py.py",
    "mtls_serving.py",
    "mtls_watched.py",
    "nautobot_client.py",
    "nautobot_config.py",
    "nautobot_django.py",
    "nautobot_loading.py",
    "nautobot_redis.py",
    "stand-in/nautobot/core/settings.py",
];

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
    /// The container that it runs in; `None`: this machine.
    pub client_container: Option<Arc<ClientContainer>>,
    /// Files and directories of this machine that it needs there too.
    pub files: Vec<PathBuf>,
    /// See [`Self::files`].
    pub directories: Vec<PathBuf>,
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
            env: BTreeMap::from([
                // The machine's own roots are no client's: none may be trusted that a scenario doesn't name. Python's `ssl` reads all of
                // them for every connection, too.
                ("SSL_CERT_FILE".to_owned(), "/dev/null".into()),
                ("SSL_CERT_DIR".to_owned(), home.clone().into_os_string()),
                ("HOME".to_owned(), home.into_os_string()),
            ]),
            log: directory.join(format!("{name}.log")),
            name: name.to_owned(),
            hello_limit: HELLO_LIMIT,
            client_container: None,
            files: Vec::new(),
            directories: vec![directory.join("empty-home")],
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
    /// As [`Self::new`], and if the client's files can't be written.
    pub fn python(build: &PythonBuild, directory: &Path) -> Result<Self, DriverError> {
        let name = build.driver.as_str();
        let driver = if name.starts_with("redis-py") { "redis-py" } else { "psycopg2" };
        let args = ["--driver".into(), driver.into(), "--name".into(), name.into()];
        Self::of_our_clients("mtls_client.py", &args, build, directory)
    }

    /// The client that connects with the settings of a `nautobot_config.py`: this one, or ours.
    ///
    /// # Errors
    /// As [`Self::python`].
    pub fn nautobot(build: &PythonBuild, config: Option<&Path>, directory: &Path) -> Result<Self, DriverError> {
        let mut args = vec!["--driver".into(), build.driver.clone().into()];
        args.extend(config.into_iter().flat_map(|config| ["--config".into(), config.into()]));
        Self::of_our_clients("nautobot_client.py", &args, build, directory)
    }

    /// One of the harness's own clients, run by its binary in a container.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn own_in(client_container: Arc<ClientContainer>, client: OwnClient, name: &str, directory: &Path) -> Result<Self, DriverError> {
        let client = match client {
            OwnClient::Rustls => "rustls",
            OwnClient::RedisRs => "redis-rs",
        };
        let args = [served::COMMAND.into(), "--client".into(), client.into(), "--name".into(), name.into()];
        let program = Self::new(client_container.harness(), &args, name, directory)?;
        Ok(Self { client_container: Some(client_container), ..program })
    }

    /// The Python client with the Python of a container, running `driver` (`psycopg2` or `redis-py`).
    ///
    /// # Errors
    /// As [`Self::python`].
    pub fn python_in(
        client_container: Arc<ClientContainer>,
        interpreter: &Path,
        driver: &str,
        name: &str,
        directory: &Path,
    ) -> Result<Self, DriverError> {
        let folder = directory.join(format!("{name}-client"));
        make(name, &folder, write_clients(&folder))?;
        let args =
            [&python_args(&folder, "mtls_client.py")[..], &["--driver".into(), driver.into(), "--name".into(), name.into()]].concat();
        let program = Self::new(interpreter, &args, name, directory)?;
        let files = CLIENT_FILES.iter().map(|(path, _)| folder.join(path)).collect();
        Ok(Self { client_container: Some(client_container), files, ..program })
    }

    fn of_our_clients(script: &str, args: &[OsString], build: &PythonBuild, directory: &Path) -> Result<Self, DriverError> {
        let name = build.driver.as_str();
        let folder = directory.join(format!("{name}-client"));
        make(name, &folder, write_clients(&folder))?;
        Self::new(&build.interpreter, &[&python_args(&folder, script), args].concat(), name, directory)
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
    write_clients(directory.path()).map_err(|error| format!("{shown}: could not be checked: {error}"))?;
    let args = [&python_args(directory.path(), "nautobot_client.py"), &["--check".into(), "--config".into(), config.into()][..]].concat();
    let run = std::process::Command::new(&build.interpreter).args(args).stdin(std::process::Stdio::null()).output();
    let output = run.map_err(|error| format!("{shown}: could not be checked with {}: {error}", build.interpreter.display()))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

/// Writes the Python clients' files below this folder, as they lie in `harness/clients/`.
fn write_clients(folder: &Path) -> std::io::Result<()> {
    for (path, text) in CLIENT_FILES {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// What runs a script among them. -I would keep it from the modules beside it; -s and -E keep the user's site-packages and `PYTHON*`
/// variables away. -B: no bytecode beside the packages.
fn python_args(folder: &Path, script: &str) -> [OsString; 2] {
    ["-sEB".into(), folder.join(script).into_os_string()]
}

fn make(driver: &str, path: &Path, result: std::io::Result<()>) -> Result<(), DriverError> {
    result.map_err(|error| DriverError::Start { driver: driver.to_owned(), reason: format!("could not make {}: {error}", path.display()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_python_file_among_the_clients_is_written_for_them() {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients");
        let written = tempfile::tempdir().expect("a directory");
        write_clients(written.path()).expect("writes");
        assert_eq!(python_files(written.path(), written.path()), python_files(&clients, &clients));
    }

    fn python_files(root: &Path, folder: &Path) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                files.extend(python_files(root, &path));
            } else if path.extension().is_some_and(|extension| extension == "py") {
                let text = std::fs::read_to_string(&path).expect("reads");
                files.insert(path.strip_prefix(root).expect("below it").to_path_buf(), text);
            }
        }
        files
    }
}
