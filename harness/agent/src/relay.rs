//! A relay in a container, for clients that run there.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::client::Agent;
use super::error::AgentError;
use super::line;
use super::protocol::{Answer, Opened, RelayRequest, RelaySpec, Request};
use model::wire::WireTrace;

/// How long an agent may take for what is done at once.
const LIMIT: Duration = Duration::from_secs(30);

/// A [`Relay`](wire::Relay) that listens in a container. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct RemoteRelay {
    agent: Agent,
    address: SocketAddr,
    upstream: SocketAddr,
    stream: Mutex<TcpStream>,
}

impl Agent {
    /// Opens a relay in the container.
    ///
    /// # Errors
    /// [`AgentError`]: addresses that can't be used there.
    pub async fn open_relay(&self, relay: RelaySpec) -> Result<RemoteRelay, AgentError> {
        let (stream, Opened { address }) = self.open(&Request::OpenRelay(relay), Some(LIMIT)).await?;
        Ok(RemoteRelay { agent: self.clone(), address, upstream: relay.upstream, stream: Mutex::new(stream) })
    }
}

impl RemoteRelay {
    /// Where clients in the container connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses that the server has seen so far, in order of the clients' arrival.
    ///
    /// # Errors
    /// [`AgentError`]: the agent is lost.
    pub async fn upstreams(&self) -> Result<Vec<SocketAddr>, AgentError> {
        self.ask(&RelayRequest::Upstreams, LIMIT).await
    }

    /// Takes no more connections, waits until those made have ended on both sides, at most for `limit`, and gives the trace.
    ///
    /// # Errors
    /// [`AgentError`]: the agent is lost, and the trace with it.
    pub async fn finish(self, limit: Duration) -> Result<WireTrace, AgentError> {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.ask(&RelayRequest::Finish { limit_ms }, limit.saturating_add(LIMIT)).await
    }

    async fn ask<T: DeserializeOwned>(&self, request: &RelayRequest, limit: Duration) -> Result<T, AgentError> {
        let address = self.agent.address();
        let doing = || format!("tell of its relay to {}", self.upstream);
        let mut stream = self.stream.lock().await;
        let asked = async {
            line::send(&mut stream, request).await?;
            line::receive(&mut stream).await
        };
        let answer = timeout(limit, asked).await.map_err(|_| AgentError::Slow { address, doing: doing(), limit })?;
        match answer.map_err(|source| AgentError::Lost { address, doing: doing(), source })? {
            Answer::Ok(value) => Ok(value),
            Answer::Err(failure) => Err(AgentError::refused(address, doing(), failure)),
        }
    }
}
