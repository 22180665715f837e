//! Why a data directory of PostgreSQL could not be prepared.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use agent::AgentError;
use os::tree::CopyError;
use tokio::task::JoinError;

use super::MachineError;

/// What can be done about a cache that can't be used.
const ADVICE: &str = "the cache directory must be writable: free space, correct its owner, or name another with --cache DIR or \
                      MTLS_CONFORMANCE_CACHE";

/// The programs of a PostgreSQL version can't be run, or no data directory can be made with them.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DataError {
    /// The toolchain has no such version.
    #[error("PostgreSQL {major} is not installed")]
    NotInstalled {
        /// The major version that was asked for.
        major: u16,
    },
    /// The image has no such version.
    #[error("the image has no PostgreSQL {major}: it has {has:?} ({release})")]
    NotInImage {
        /// The major version that was asked for.
        major: u16,
        /// The versions that it has, separated by commas.
        has: String,
        /// The distribution in the image.
        release: String,
    },
    /// It was there when the toolchain was looked at.
    #[error("{program} does not exist; `make setup` brings what is missing", program = program.display())]
    NoProgram {
        /// The path of `postgres`.
        program: PathBuf,
    },
    /// A program of it has the root directory's parent for its own.
    #[error("{bin} has no parent directory", bin = bin.display())]
    NoParent {
        /// The directory of its programs.
        bin: PathBuf,
    },
    /// Something on the machine: a directory, a process.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A program ended with a status that is not zero.
    #[error("`{command}` ended with {status}; its last lines: {said}")]
    Failed {
        /// The program with its arguments.
        command: String,
        /// Its exit code, or the signal that ended it.
        status: ExitStatus,
        /// The end of its output.
        said: String,
    },
    /// A program did not end.
    #[error("`{command}` did not end within {limit:?}; its last lines: {said}")]
    Slow {
        /// The program with its arguments.
        command: String,
        /// Many times what it takes.
        limit: Duration,
        /// The end of its output.
        said: String,
    },
    /// wait(2) failed for a program's process.
    #[error("`{command}` could not be waited for: {source}")]
    Wait {
        /// The program with its arguments.
        command: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// A program could not be run in a container.
    #[error("`{command}` could not be run: {source}")]
    Run {
        /// The program with its arguments.
        command: String,
        /// What the agent said.
        source: Arc<AgentError>,
    },
    /// The programs are of another version than the toolchain's places promise.
    #[error("`{command}` should be PostgreSQL {major}, but says: {said}")]
    WrongVersion {
        /// `postgres --version`, with its path.
        command: String,
        /// The major version that was asked for.
        major: u16,
        /// The last lines of what `--version` printed.
        said: String,
    },
    /// The servers' user can't reach the programs where they are, and they could not be copied to where it can.
    #[error("user {user} can't reach {bin}, and a copy failed: {source}", bin = bin.display())]
    Unreachable {
        /// The name of the servers' user.
        user: String,
        /// The directory of the programs.
        bin: PathBuf,
        /// At which file it failed.
        source: Box<DataError>,
    },
    /// A tree of files could not be copied.
    #[error(transparent)]
    CopyTree(Arc<CopyError>),
    /// The prepared data directory could not be copied for a server.
    #[error("{0}; is the file system full?")]
    CopyData(#[source] Arc<CopyError>),
    /// The cache directory can't be used.
    #[error("could not {action} {path}: {source}; {ADVICE}", path = path.display())]
    Cache {
        /// What was tried with it, to be read on after "could not".
        action: &'static str,
        /// The directory, or the lock in it.
        path: PathBuf,
        /// What the system call said.
        source: Arc<io::Error>,
    },
    /// What was prepared could not be put into the cache.
    #[error("could not keep a prepared data directory: {source}")]
    Keep {
        /// At which file it failed.
        source: Box<DataError>,
    },
    /// What was prepared in a container could not be put into the cache.
    #[error("could not keep a prepared data directory as {archive}: {source}; {ADVICE}", archive = archive.display())]
    Pack {
        /// The archive in the cache.
        archive: PathBuf,
        /// What the agent, or this machine, said.
        source: Box<MachineError>,
    },
    /// The agent could not unpack what was prepared: it may be cut short.
    #[error(
        "could not unpack the prepared data directory {archive} (delete it, and it is made anew): {source}",
        archive = archive.display()
    )]
    Unpack {
        /// The archive in the cache.
        archive: PathBuf,
        /// What the agent said.
        source: Arc<AgentError>,
    },
    /// A task that copies panicked.
    #[error("the copying of a data directory broke off: {0}")]
    Panicked(#[source] Arc<JoinError>),
}

impl From<CopyError> for DataError {
    fn from(error: CopyError) -> Self {
        Self::CopyTree(Arc::new(error))
    }
}

impl From<JoinError> for DataError {
    fn from(error: JoinError) -> Self {
        Self::Panicked(Arc::new(error))
    }
}
