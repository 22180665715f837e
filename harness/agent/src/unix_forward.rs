//! A unix socket here that leads to one in a container: libpq needs a path.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::client::Agent;
use super::error::AgentError;
use os::accept::ACCEPT_PAUSE;
use os::carry::{Direction, Unfiltered, carry};

/// A local unix socket whose connections an agent carries on. Dropping it ends them and removes the socket.
#[derive(Debug)]
pub struct UnixForward {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl UnixForward {
    /// Listens at `local` for connections to `remote`, a unix socket in the container. The directory of `local` is made with mode 0700
    /// if it is missing; the socket is for this user only.
    ///
    /// # Errors
    /// [`AgentError::Local`]: the path is taken, or longer than a socket's may be (108 bytes).
    pub fn open(agent: Agent, local: &Path, remote: &Path) -> Result<Self, AgentError> {
        let error = |action| move |source| AgentError::Local { action, path: local.to_path_buf(), source };
        if let Some(directory) = local.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o700);
            builder.create(directory).map_err(error("make the directory of"))?;
        }
        let listener = UnixListener::bind(local).map_err(error("listen at"))?;
        let forward = Self { path: local.to_path_buf(), task: tokio::spawn(serve(listener, agent, remote.to_path_buf())) };
        std::fs::set_permissions(local, std::fs::Permissions::from_mode(0o600)).map_err(error("set the mode of"))?;
        Ok(forward)
    }

    /// Where the local socket is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixForward {
    fn drop(&mut self) {
        self.task.abort();
        // Its directory may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, agent: Agent, remote: PathBuf) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let (agent, remote) = (agent.clone(), remote.clone());
                    links.spawn(async move { link(client, &agent, &remote).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_ended) = links.join_next(), if !links.is_empty() => {}
        }
    }
}

/// One connection. That the server can't be reached shows as the end of the connection: a unix socket has no reset.
async fn link(mut client: UnixStream, agent: &Agent, remote: &Path) -> io::Result<()> {
    let mut server = agent.dial_unix(remote).await?;
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    carry(
        Direction { from: client_read, to: server_write, filter: Unfiltered },
        Direction { from: server_read, to: client_write, filter: Unfiltered },
    )
    .await;
    Ok(())
}
