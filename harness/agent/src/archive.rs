//! Directories to and from a container, as tar files.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::client::Agent;
use super::error::AgentError;
use super::frame::{self, Kind};
use super::line;
use super::protocol::{Answer, Done, Failure, Owner, Request};

/// How long the other end may take for the next piece, or for the last answer.
const LIMIT: Duration = Duration::from_secs(60);

impl Agent {
    /// Writes a directory of the container to the local file `tar`: files with their modes, links as they are. Sockets are left out.
    ///
    /// # Errors
    /// [`AgentError`]; what is in the local file then is no archive.
    pub async fn pack(&self, directory: &Path, tar: &Path) -> Result<(), AgentError> {
        let local = |action| move |source| AgentError::Local { action, path: tar.to_path_buf(), source };
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(tar).await.map_err(local("make"))?;
        let request = Request::Pack(directory.to_path_buf());
        let (stream, Done {}) = self.open(&request, Some(LIMIT)).await?;
        let mut stream = BufReader::new(stream);
        loop {
            match self.within(&request, frame::receive(&mut stream)).await? {
                Some((Kind::Data, bytes)) => file.write_all(&bytes).await.map_err(local("write"))?,
                Some((Kind::DataEnd, _)) => return file.flush().await.map_err(local("write")),
                Some((Kind::Failed, bytes)) => return Err(self.failed(&request, &bytes)),
                _ => return Err(self.lost(&request, io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// Unpacks the local file `tar` to a directory of the container, which is made if it is missing and gets the packed one's mode.
    /// Everything in it belongs to `owner` afterwards; `None`: to the agent's user.
    ///
    /// # Errors
    /// [`AgentError`]; what was unpacked until then stays.
    pub async fn unpack(&self, tar: &Path, directory: &Path, owner: Option<Owner>) -> Result<(), AgentError> {
        let local = |action| move |source| AgentError::Local { action, path: tar.to_path_buf(), source };
        let mut file = File::open(tar).await.map_err(local("open"))?;
        let request = Request::Unpack { directory: directory.to_path_buf(), owner };
        let (mut stream, Done {}) = self.open(&request, Some(LIMIT)).await?;
        let mut buffer = vec![0; frame::MAX_FRAME];
        loop {
            let length = file.read(&mut buffer).await.map_err(local("read"))?;
            let piece = buffer.get(..length).unwrap_or_default();
            let kind = if piece.is_empty() { Kind::DataEnd } else { Kind::Data };
            let sent = timeout(LIMIT, frame::send(&mut stream, kind, piece)).await;
            // An agent that has given up says why.
            if kind == Kind::DataEnd || !matches!(sent, Ok(Ok(()))) {
                return self.last_answer(&request, &mut stream).await;
            }
        }
    }

    async fn last_answer(&self, request: &Request, stream: &mut TcpStream) -> Result<(), AgentError> {
        match self.within(request, line::receive(stream)).await? {
            Answer::Ok(Done {}) => Ok(()),
            Answer::Err(failure) => Err(AgentError::refused(self.address(), request.to_string(), failure)),
        }
    }

    async fn within<T>(&self, request: &Request, received: impl Future<Output = io::Result<T>>) -> Result<T, AgentError> {
        let slow = |_| AgentError::Slow { address: self.address(), doing: request.to_string(), limit: LIMIT };
        timeout(LIMIT, received).await.map_err(slow)?.map_err(|source| self.lost(request, source))
    }

    fn lost(&self, request: &Request, source: io::Error) -> AgentError {
        AgentError::Lost { address: self.address(), doing: request.to_string(), source }
    }

    fn failed(&self, request: &Request, bytes: &[u8]) -> AgentError {
        let failure = serde_json::from_slice(bytes).unwrap_or_else(|_| Failure::text(String::from_utf8_lossy(bytes)));
        AgentError::refused(self.address(), request.to_string(), failure)
    }
}
