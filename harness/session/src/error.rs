//! Why a session could not be started.

use std::io;

use environment::EnvironmentError;
#[cfg(feature = "container")]
use environment::container::engine::EngineError;
use os::rundir::RunDirError;

/// A session could not be started: no case has run.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no directory for what the run makes.
    #[error(transparent)]
    RunDirectory(#[from] RunDirError),
    /// Servers could not be prepared.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// No container engine that can be used.
    #[cfg(feature = "container")]
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Somebody ended the run before anything was made.
    #[error("interrupted while images were looked for or pulled")]
    Interrupted,
    /// Labels of containers have the name of the run's directory.
    #[error("the run's directory has no name")]
    NoName,
    /// Nobody would remove the containers of a run that is killed.
    #[error("the containers could not be entrusted to the watcher of the run's directory: {0}")]
    Entrust(#[source] io::Error),
}
