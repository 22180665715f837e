//! A look at a `nautobot_config.py` before anything is started.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::python::{python_args, write_clients};
use os::toolchain::PythonBuild;

/// A `nautobot_config.py` is of no use, or could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The client that reads it could not be written to a temporary directory.
    #[error("{config}: could not be checked: {source}", config = config.display())]
    Prepare {
        /// The file that the user gave with `--nautobot-config`.
        config: PathBuf,
        /// What the system call said.
        source: io::Error,
    },
    /// Python could not be executed.
    #[error("{config}: could not be checked with {interpreter}: {source}", config = config.display(), interpreter = interpreter.display())]
    Run {
        /// The file that the user gave with `--nautobot-config`.
        config: PathBuf,
        /// The Python that was tried.
        interpreter: PathBuf,
        /// What fork(2) or execve(2) said.
        source: io::Error,
    },
    /// Python can't read it. The client's own words, which name file and line.
    #[error("{0}")]
    NotPython(String),
}

/// Reads a `nautobot_config.py` as the client will, and connects nowhere.
///
/// # Errors
/// [`ConfigError`].
pub fn check_nautobot_config(build: &PythonBuild, config: &Path) -> Result<(), ConfigError> {
    let prepare = |source| ConfigError::Prepare { config: config.to_path_buf(), source };
    let directory = tempfile::tempdir().map_err(prepare)?;
    write_clients(directory.path()).map_err(prepare)?;
    let args = [&python_args(directory.path(), "nautobot_client.py"), &["--check".into(), "--config".into(), config.into()][..]].concat();
    let output = Command::new(&build.interpreter).args(args).stdin(Stdio::null()).output().map_err(|source| ConfigError::Run {
        config: config.to_path_buf(),
        interpreter: build.interpreter.clone(),
        source,
    })?;
    if output.status.success() { Ok(()) } else { Err(ConfigError::NotPython(String::from_utf8_lossy(&output.stderr).trim().to_owned())) }
}
