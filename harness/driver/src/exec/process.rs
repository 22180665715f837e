//! A client program's process, on this machine or in the clients' container.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::program::Program;
use agent::RemoteChild;
use os::child::Child;

/// The program's standard input.
pub(super) type Input = Box<dyn AsyncWrite + Send + Unpin>;
/// Its standard output.
pub(super) type Output = Box<dyn AsyncRead + Send + Unpin>;

/// A program that runs. Dropping it stops it.
pub(super) enum Process {
    Here(Child),
    There(RemoteChild),
}

impl Process {
    /// Starts a program; the reason if it can't be.
    pub(super) async fn start(program: &Program) -> Result<(Self, Input, Output), String> {
        let spec = program.child();
        if let Some(client_container) = &program.client_container {
            client_container.bring(program.files.iter().cloned()).await.map_err(|error| error.to_string())?;
            client_container.make_directories(program.directories.iter().map(AsRef::as_ref)).await.map_err(|error| error.to_string())?;
            let (child, output, input) = client_container.agent().spawn_piped(&spec).await.map_err(|error| error.to_string())?;
            return Ok((Self::There(child), Box::new(input), Box::new(output)));
        }
        let mut child = spec.spawn().await.map_err(|error| error.to_string())?;
        let (input, output) = child.take_pipes().ok_or("it has no pipes")?;
        Ok((Self::Here(child), Box::new(input), Box::new(output)))
    }

    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        match self {
            Self::Here(child) => child.wait().await,
            Self::There(child) => child.wait().await,
        }
    }

    pub(super) async fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        match self {
            Self::Here(child) => child.stop(limit).await,
            Self::There(child) => child.stop(limit).await,
        }
    }

    /// Where its standard error goes, on this machine.
    pub(super) fn log(&self) -> &Path {
        match self {
            Self::Here(child) => child.log(),
            Self::There(child) => &child.spec().log,
        }
    }
}
