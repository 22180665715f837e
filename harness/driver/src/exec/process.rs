//! A client program's process, on this machine or in the clients' container.

use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::program::Program;
use crate::error::SpawnError;
use agent::RemoteChild;
use os::child::Child;

/// The program's standard input.
pub(super) type Input = Box<dyn AsyncWrite + Send + Unpin>;
/// The program's standard output.
pub(super) type Output = Box<dyn AsyncRead + Send + Unpin>;

/// A program that runs. Dropping it stops it.
pub(super) enum Process {
    Local(Child),
    Remote(RemoteChild),
}

impl Process {
    /// Starts a program where it is to run, and gives its pipes.
    pub(super) async fn start(program: &Program) -> Result<(Self, Input, Output), SpawnError> {
        let spec = program.child();
        if let Some(client_container) = &program.client_container {
            client_container.bring(program.files.iter().cloned()).await?;
            client_container.make_directories(program.directories.iter().map(AsRef::as_ref)).await?;
            let (child, output, input) = client_container.agent().spawn_piped(&spec).await?;
            return Ok((Self::Remote(child), Box::new(input), Box::new(output)));
        }
        let mut child = spec.spawn().await?;
        let (input, output) = child.take_pipes().ok_or(SpawnError::NoPipes)?;
        Ok((Self::Local(child), Box::new(input), Box::new(output)))
    }

    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        match self {
            Self::Local(child) => child.wait().await,
            Self::Remote(child) => child.wait().await,
        }
    }

    pub(super) async fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        match self {
            Self::Local(child) => child.stop(limit).await,
            Self::Remote(child) => child.stop(limit).await,
        }
    }

    /// Where its standard error goes, on this machine.
    pub(super) fn log(&self) -> &Path {
        match self {
            Self::Local(child) => child.log(),
            Self::Remote(child) => &child.spec().log,
        }
    }
}
