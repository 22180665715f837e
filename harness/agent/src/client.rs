//! The client of an agent.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::error::AgentError;
use super::framed::Pairs;
use super::line;
use super::protocol::{Answer, DirectorySpec, Done, Envelope, FileSpec, Request};
use super::survey::Survey;

/// How long a connection to an agent may take: it is on this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long an agent may take for what is done in milliseconds: only one that is paused or cut off takes longer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Contents of files that are sent at once.
const BATCH: usize = 4 * 1024 * 1024;

/// An agent that runs in a container. Cheap to clone: every request is a connection of its own.
#[derive(Clone)]
pub struct Agent {
    /// Clones follow when it moves.
    address: Arc<Mutex<SocketAddr>>,
    token: String,
    pairs: Arc<Pairs>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Agent({})", self.address())
    }
}

/// A connection as long as which an agent lives. Dropping it ends it.
#[derive(Debug)]
pub struct AgentLease {
    stream: TcpStream,
}

impl AgentLease {
    /// Waits for the agent's end: its container has ended, or it was stopped.
    pub async fn agent_ended(&self) {
        line::hung_up(&self.stream).await;
    }
}

impl Agent {
    /// The agent that listens there and was given this token. Nothing is sent yet.
    #[must_use]
    pub fn new(address: SocketAddr, token: impl Into<String>) -> Self {
        Self { address: Arc::new(Mutex::new(address)), token: token.into(), pairs: Arc::default() }
    }

    /// Where it listens, as seen from this machine.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It listens elsewhere from now on: its container was started again. Holds for all clones.
    pub fn moved_to(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    /// What is in its container. Takes as long as it takes programs to tell their versions.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn survey(&self) -> Result<Survey, AgentError> {
        self.ask(&Request::Survey).await
    }

    /// Keeps the agent alive as long as the result lives. Without any it ends half a minute after its start; when the last has ended,
    /// it stops its children and exits.
    ///
    /// # Errors
    /// [`AgentError`].
    pub async fn hold(&self) -> Result<AgentLease, AgentError> {
        let (stream, Done {}) = self.open(&Request::Hold, Some(ANSWER_LIMIT)).await?;
        line::keep_alive(&stream);
        Ok(AgentLease { stream })
    }

    /// Makes directories. What is there already gets the mode and owner too.
    ///
    /// # Errors
    /// [`AgentError`] with the first one that can't be made.
    pub async fn make_directories(&self, directories: &[DirectorySpec]) -> Result<(), AgentError> {
        self.ask(&Request::MakeDirectories(directories.to_vec())).await.map(|Done {}| ())
    }

    /// Writes files, each by a rename: who reads one meanwhile reads all of the old or all of the new one.
    ///
    /// # Errors
    /// [`AgentError`] with the first one that can't be written; those before it are.
    pub async fn write(&self, files: &[FileSpec]) -> Result<(), AgentError> {
        let mut rest = files;
        while !rest.is_empty() {
            let mut size = 0;
            let fitting = rest.iter().take_while(|file| {
                size += file.contents.len();
                size <= BATCH
            });
            let count = fitting.count().max(1);
            let (now, later) = rest.split_at(count);
            let Done {} = self.ask(&Request::Write(now.to_vec())).await?;
            rest = later;
        }
        Ok(())
    }

    /// Removes files and trees. What is missing is no error.
    ///
    /// # Errors
    /// [`AgentError`] with the first one that can't be removed.
    pub async fn remove(&self, paths: &[PathBuf]) -> Result<(), AgentError> {
        self.ask(&Request::Remove(paths.to_vec())).await.map(|Done {}| ())
    }

    /// The length of a file in bytes.
    ///
    /// # Errors
    /// [`AgentError`]: no such file there.
    pub async fn length(&self, path: &Path) -> Result<u64, AgentError> {
        self.ask(&Request::Length(path.to_path_buf())).await
    }

    pub(super) fn pairs(&self) -> &Pairs {
        &self.pairs
    }

    /// A request that its answer ends.
    async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T, AgentError> {
        self.open(request, Some(ANSWER_LIMIT)).await.map(|(_, answer)| answer)
    }

    /// Sends a request, and gives the answer with the connection that it came over. Of what comes after, nothing has been read.
    pub(super) async fn open<T: DeserializeOwned>(&self, request: &Request, limit: Option<Duration>) -> Result<(TcpStream, T), AgentError> {
        let answered = self.exchange(request);
        match limit {
            None => answered.await,
            Some(limit) => timeout(limit, answered)
                .await
                .unwrap_or_else(|_| Err(AgentError::Slow { address: self.address(), doing: request.to_string(), limit })),
        }
    }

    async fn exchange<T: DeserializeOwned>(&self, request: &Request) -> Result<(TcpStream, T), AgentError> {
        let mut stream = self.connect(request).await?;
        let lost = |source| AgentError::Lost { address: self.address(), doing: request.to_string(), source };
        line::send(&mut stream, &Envelope { token: self.token.clone(), request }).await.map_err(lost)?;
        match line::receive(&mut stream).await.map_err(lost)? {
            Answer::Ok(value) => Ok((stream, value)),
            Answer::Err(failure) => Err(AgentError::refused(self.address(), request.to_string(), failure)),
        }
    }

    async fn connect(&self, request: &Request) -> Result<TcpStream, AgentError> {
        let error = |source| AgentError::Connect { address: self.address(), doing: request.to_string(), source };
        let connected = timeout(CONNECT_LIMIT, TcpStream::connect(self.address())).await;
        let stream = connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())).map_err(error)?;
        stream.set_nodelay(true).map_err(error)?;
        Ok(stream)
    }
}
