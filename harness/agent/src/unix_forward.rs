//! A unix socket for clients that leads to one in a container, or to one here that they may not enter: libpq needs a path.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::client::Agent;
use super::error::AgentError;
use os::accept::ACCEPT_PAUSE;
use os::carry::{Direction, Unfiltered, carry};
use os::tree;
use os::user::RunAs;

/// A local unix socket whose connections are carried on to another one. Dropping it ends them and removes the socket.
#[derive(Debug)]
pub struct UnixForward {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl UnixForward {
    /// Listens at `local` for connections to `remote`, a unix socket in the container. The directory of `local` is made with mode 0711
    /// if it is missing; the socket is only for the user that clients run as.
    ///
    /// # Errors
    /// [`AgentError::Local`]: the path is taken, or longer than a socket's may be (108 bytes).
    pub fn open(agent: Agent, local: &Path, remote: &Path) -> Result<Self, AgentError> {
        Self::open_to(Some(agent), local, remote)
    }

    /// The same to a unix socket of this machine, which sees this process as its peer: a user that has a name, as `peer` needs it.
    ///
    /// # Errors
    /// As [`UnixForward::open`].
    pub fn open_here(local: &Path, remote: &Path) -> Result<Self, AgentError> {
        Self::open_to(None, local, remote)
    }

    fn open_to(agent: Option<Agent>, local: &Path, remote: &Path) -> Result<Self, AgentError> {
        let error = |action| move |source| AgentError::Local { action, path: local.to_path_buf(), source };
        if let Some(directory) = local.parent() {
            let mut builder = std::fs::DirBuilder::new();
            builder.recursive(true).mode(0o711);
            builder.create(directory).map_err(error("make the directory of"))?;
        }
        let listener = UnixListener::bind(local).map_err(error("listen at"))?;
        let forward = Self { path: local.to_path_buf(), task: tokio::spawn(serve(listener, agent, remote.to_path_buf())) };
        std::fs::set_permissions(local, std::fs::Permissions::from_mode(0o600)).map_err(error("set the mode of"))?;
        tree::give(local, RunAs::of_clients().as_ref()).map_err(error("give away"))?;
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

async fn serve(listener: UnixListener, agent: Option<Agent>, remote: PathBuf) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let (agent, remote) = (agent.clone(), remote.clone());
                    links.spawn(async move { link(client, agent.as_ref(), &remote).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_ended) = links.join_next(), if !links.is_empty() => {}
        }
    }
}

/// One connection. That the server can't be reached shows as the end of the connection: a unix socket has no reset.
async fn link(client: UnixStream, agent: Option<&Agent>, remote: &Path) -> io::Result<()> {
    match agent {
        Some(agent) => {
            let mut server = agent.dial_unix(remote).await?;
            let (server_read, server_write) = server.split();
            both(client, server_read, server_write).await;
        }
        None => {
            let mut server = UnixStream::connect(remote).await?;
            let (server_read, server_write) = server.split();
            both(client, server_read, server_write).await;
        }
    }
    Ok(())
}

async fn both(mut client: UnixStream, server_read: impl AsyncRead + Unpin, server_write: impl AsyncWrite + Unpin) {
    let (client_read, client_write) = client.split();
    carry(
        Direction { from: client_read, to: server_write, filter: Unfiltered },
        Direction { from: server_read, to: client_write, filter: Unfiltered },
    )
    .await;
}
