//! How a client program is started.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::limits::ProgramLimits;
use super::python::{CLIENT_FILES, python_args, write_clients};
use crate::error::{DriverError, StartError};
use crate::libpq;
use crate::served::{self, OwnClient};
use agent::ClientContainer;
use os::child::{ChildSpec, Pipes};
use os::toolchain::{LibpqBuild, PythonBuild};
use os::user::RunAs;

/// A program to start, and what is expected of it.
#[derive(Debug, Clone)]
pub struct Program {
    /// What is executed: a path, or a name that is looked for on `PATH`.
    pub program: PathBuf,
    /// Without the program's own name.
    pub args: Vec<OsString>,
    /// Its environment, besides `PATH` and `LANG`: libpq and OpenSSL read options from variables, so nothing of ours is inherited.
    pub env: BTreeMap<String, OsString>,
    /// Where its standard error goes.
    pub log: PathBuf,
    /// The name that its greeting must give.
    pub name: String,
    /// How long it is waited for.
    pub limits: ProgramLimits,
    /// Who it runs as; `None`: whoever starts it.
    pub user: Option<RunAs>,
    /// Whether it is told the user by `--run-as` and becomes it, as our own clients do. They start as ourselves, so that they can be read where
    /// nobody else may look: below the home directory of root.
    pub becomes_user: bool,
    /// The container that it runs in; `None`: this machine.
    pub client_container: Option<Arc<ClientContainer>>,
    /// Files of this machine that it needs in its container too, under the same paths.
    pub files: Vec<PathBuf>,
    /// Directories that it needs in its container, empty.
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
            limits: ProgramLimits::default(),
            user: None,
            becomes_user: false,
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
        Self::ours(harness, &args, name, directory)
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

    /// The client that connects with the settings of a `nautobot_config.py`: this one, or ours. It finds certificates at
    /// `mount`.
    ///
    /// # Errors
    /// As [`Self::python`].
    pub fn nautobot(build: &PythonBuild, config: Option<&Path>, mount: &str, directory: &Path) -> Result<Self, DriverError> {
        let mut args = vec!["--driver".into(), build.driver.clone().into(), "--mount".into(), mount.into()];
        args.extend(config.into_iter().flat_map(|config| ["--config".into(), config.into()]));
        Self::of_our_clients("nautobot_client.py", &args, build, directory)
    }

    /// One of the harness's own clients, run by its binary, `harness`.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn own(harness: &Path, client: OwnClient, name: &str, directory: &Path) -> Result<Self, DriverError> {
        let client = match client {
            OwnClient::Rustls => "rustls",
            OwnClient::RedisRs => "redis-rs",
        };
        let args = [served::COMMAND.into(), "--client".into(), client.into(), "--name".into(), name.into()];
        Self::ours(harness, &args, name, directory)
    }

    /// The same in a container.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn own_in(client_container: Arc<ClientContainer>, client: OwnClient, name: &str, directory: &Path) -> Result<Self, DriverError> {
        let program = Self::own(client_container.harness(), client, name, directory)?;
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
        let program = Self::ours(interpreter, &args, name, directory)?;
        let files = CLIENT_FILES.iter().map(|(path, _)| folder.join(path)).collect();
        Ok(Self { client_container: Some(client_container), files, ..program })
    }

    fn of_our_clients(script: &str, args: &[OsString], build: &PythonBuild, directory: &Path) -> Result<Self, DriverError> {
        let name = build.driver.as_str();
        let folder = directory.join(format!("{name}-client"));
        make(name, &folder, write_clients(&folder))?;
        Self::ours(&build.interpreter, &[&python_args(&folder, script), args].concat(), name, directory)
    }

    /// A program that takes `--run-as`.
    fn ours(program: &Path, args: &[OsString], name: &str, directory: &Path) -> Result<Self, DriverError> {
        Ok(Self { becomes_user: true, ..Self::new(program, args, name, directory)? })
    }

    pub(super) fn child(&self) -> ChildSpec {
        let mut spec = ChildSpec::new(&self.program, &self.log);
        spec.args.clone_from(&self.args);
        match &self.user {
            Some(user) if self.becomes_user => spec.args.extend(["--run-as".into(), user.argument().into()]),
            user => spec.user.clone_from(user),
        }
        spec.env.clone_from(&self.env);
        spec.pipes = Pipes::Lines;
        spec
    }

    /// The error of a start that ended with this cause, which gets the command line.
    pub(super) fn start_error(&self, cause: impl FnOnce(String) -> StartError) -> DriverError {
        DriverError::start(&self.name, cause(self.child().command_line()))
    }
}

fn make(driver: &str, path: &Path, result: std::io::Result<()>) -> Result<(), DriverError> {
    result.map_err(|source| DriverError::start(driver, StartError::Prepare { path: path.to_path_buf(), source }))
}
