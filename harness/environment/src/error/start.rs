//! Why a server did not come up.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use os::file_watch::FileWatchError;
use os::poll::PollTimeout;

use super::{AdminError, ConfigError, DataError, MachineError};

/// Why a server or a gateway did not start.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StartCause {
    /// A file or process of its machine.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// What its files should hold could not be said.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// PostgreSQL's data directory, or the programs that make it.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Its log can't be followed.
    #[error(transparent)]
    Log(Arc<FileWatchError>),
    /// The machine that it was to run on lacks its program.
    #[error("there is no {0} where it should run")]
    NoProgram(&'static str),
    /// The system gives no port to listen on.
    #[error("could not find a free port: {0}")]
    NoPort(#[source] Arc<io::Error>),
    /// All ports that were tried are those of other listeners.
    #[error("could not find a free port for each listener")]
    TooFewPorts,
    /// Another program listens there; told once as many ports were tried as are.
    #[error("port {port} is taken: `{command}` said {said}")]
    PortTaken {
        /// The last TCP port that was tried.
        port: u16,
        /// The server's command line.
        command: String,
        /// The server's lines that say so.
        said: String,
    },
    /// Its process ended before it took connections.
    #[error("`{command}` ended early with {status}; its last lines: {said}")]
    Ended {
        /// The server's command line.
        command: String,
        /// Its exit code, or the signal that ended it.
        status: ExitStatus,
        /// The end of its log, or of its output.
        said: String,
    },
    /// wait(2) failed for its process.
    #[error("`{command}` could not be waited for: {source}; its last lines: {said}")]
    Wait {
        /// The server's command line.
        command: String,
        /// What the system said.
        source: Arc<io::Error>,
        /// The end of its log, or of its output.
        said: String,
    },
    /// The container, or the agent in it, that would have told of its end is gone.
    #[error(
        "`{command}`: its container, or the harness's agent in it, ended meanwhile: nothing is known of the server; its last lines: {said}"
    )]
    Unobserved {
        /// The server's command line.
        command: String,
        /// The end of its log, or of its output.
        said: String,
    },
    /// It runs, and its log does not say that it takes connections.
    #[error("`{command}` was not ready within {limit:?}; its last lines: {said}")]
    NotReady {
        /// The server's command line.
        command: String,
        /// How long it was waited for.
        limit: Duration,
        /// The end of its log, or of its output.
        said: String,
    },
    /// A gateway runs, and takes no connections.
    #[error("`{command}`: {source}; its last lines: {said}")]
    NotListening {
        /// The gateway's command line.
        command: String,
        /// The address that was tried, and what came of it.
        source: Arc<PollTimeout>,
        /// The end of its output.
        said: String,
    },
    /// The application's role and database could not be given their names.
    #[error("{source}; its last lines: {said}")]
    Application {
        /// What came of the superuser's statements.
        source: AdminError,
        /// The end of its log.
        said: String,
    },
    /// There is no image to run it from.
    #[cfg(feature = "container")]
    #[error(transparent)]
    Image(#[from] super::ImageError),
}
