//! Connections that an agent makes: servers see the container's address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use async_trait::async_trait;
use tokio::net::TcpStream;

use super::client::Agent;
use super::error::AgentError;
use super::framed;
use super::protocol::{Connected, Done, Request};
use os::dial::{Dialer, Dialled};

/// Connects to servers' ports through an agent: they see an address of its container.
#[derive(Debug, Clone)]
pub struct AgentDialer {
    agent: Agent,
}

impl AgentDialer {
    /// A dialer whose connections this agent makes.
    #[must_use]
    pub fn new(agent: Agent) -> Self {
        Self { agent }
    }
}

#[async_trait]
impl Dialer for AgentDialer {
    async fn dial(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<Dialled> {
        self.agent.dial(server, source).await
    }

    /// Only what can be told from here: an address of the other family can never be had.
    fn check(&self, server: SocketAddr, source: IpAddr) -> io::Result<()> {
        if server.is_ipv4() == source.is_ipv4() { Ok(()) } else { Err(io::Error::from_raw_os_error(nix::libc::EAFNOSUPPORT)) }
    }
}

impl Agent {
    /// Connects to a server from inside the container, from `source` where one is given. Ends of stream and resets pass in both
    /// directions. Has no time limit of its own; when this future is dropped, the agent gives up too.
    ///
    /// # Errors
    /// Those of bind(2) and connect(2) in the container, and the text of an [`AgentError`] where the agent is lost:
    /// see [`AgentError::into_io`].
    pub async fn dial(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<Dialled> {
        let answered = self.open(&Request::Dial { server, source }, None).await;
        let (framed, Connected { client }) = answered.map_err(AgentError::into_io)?;
        let (stream, plain) = self.pairs().pair()?;
        // Ends with its two sides.
        tokio::spawn(framed::carry(plain, framed));
        Ok(Dialled { stream, client })
    }

    /// Connects to a unix socket in the container. The server's end of stream and a reset look alike.
    ///
    /// # Errors
    /// As [`Self::dial`].
    pub async fn dial_unix(&self, path: &Path) -> io::Result<TcpStream> {
        let answered = self.open(&Request::DialUnix(path.to_path_buf()), None).await;
        answered.map(|(stream, Done {})| stream).map_err(AgentError::into_io)
    }
}
