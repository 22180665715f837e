//! A local copy of a container's file that grows with it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::task::JoinHandle;

use super::client::Agent;
use super::error::AgentError;
use super::line;
use super::protocol::{Done, Request};

const LIMIT: Duration = Duration::from_secs(30);

/// A task that copies what a file in the container gets. Dropping it ends the task.
#[derive(Debug)]
pub struct Follower {
    task: JoinHandle<()>,
}

impl Follower {
    /// Whether nothing more comes: the agent is lost, or the local file could not be written to.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    /// Appends to `local` everything that `remote` holds beyond what `local` has already, and what it gets from now on as soon as it is
    /// written. `remote` must exist.
    /// A file that is replaced under its name, or cut short, is not taken up again.
    ///
    /// # Errors
    /// [`AgentError`]: no such file there, or no such place here.
    pub async fn follow(&self, remote: &Path, local: &Path) -> Result<Follower, AgentError> {
        let file = OpenOptions::new().create(true).append(true).open(local);
        let mut file = file.map_err(|source| AgentError::Local { action: "open", path: local.to_path_buf(), source })?;
        let from = file.metadata().map(|status| status.len());
        let from = from.map_err(|source| AgentError::Local { action: "look at", path: local.to_path_buf(), source })?;
        let (mut stream, Done {}) = self.open(&Request::Follow { path: remote.to_path_buf(), from }, Some(LIMIT)).await?;
        line::keep_alive(&stream);
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                if file.write_all(buffer.get(..length).unwrap_or_default()).is_err() {
                    break;
                }
            }
        });
        Ok(Follower { task })
    }
}
