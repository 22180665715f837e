//! Ways into containers: from the clients' container over the network in which the client is meant to be, and from a server's own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;

use super::agent_container::AgentContainer;
use agent::Agent;
use model::network::NetworkName;
use os::dial::{Dialer, Dialled};

/// The way to the ports of one container.
///
/// - A source of the clients' container: from there, to the container's address in the same network.
/// - A source or an address of loopback: from the container itself, as a process beside the server.
/// - No source: from the clients' container, whichever address the system takes.
pub(super) struct ContainerDialer {
    clients: Arc<AgentContainer>,
    own: Agent,
    addresses: BTreeMap<NetworkName, IpAddr>,
}

impl fmt::Debug for ContainerDialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContainerDialer({:?})", self.addresses)
    }
}

impl ContainerDialer {
    /// To the ports of `target`.
    pub(super) fn new(clients: Arc<AgentContainer>, target: &AgentContainer) -> Self {
        Self { clients, own: target.agent().clone(), addresses: target.addresses().clone() }
    }

    /// Who connects, and where to.
    fn way(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<(&Agent, SocketAddr)> {
        let Some(source) = source else {
            let own = server.ip().is_loopback();
            return Ok((if own { &self.own } else { self.clients.agent() }, server));
        };
        if source.is_loopback() {
            let loopback = IpAddr::from(std::net::Ipv4Addr::LOCALHOST);
            let at = if source.is_ipv6() == server.is_ipv6() && server.ip().is_loopback() { server.ip() } else { loopback };
            return Ok((&self.own, SocketAddr::new(at, server.port())));
        }
        let network = self.clients.addresses().iter().find(|(_, address)| **address == source).map(|(network, _)| network);
        let address = network.and_then(|network| self.addresses.get(network));
        let unknown = || io::Error::from_raw_os_error(nix::libc::EADDRNOTAVAIL);
        Ok((self.clients.agent(), SocketAddr::new(*address.ok_or_else(unknown)?, server.port())))
    }
}

#[async_trait]
impl Dialer for ContainerDialer {
    async fn dial(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<Dialled> {
        let (agent, server) = self.way(server, source)?;
        agent.dial(server, source).await
    }

    fn address_at_origin(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<SocketAddr> {
        // Loopback is another one there.
        if server.ip().is_loopback() || source.is_some_and(|source| source.is_loopback()) {
            return Err(io::Error::from_raw_os_error(nix::libc::EADDRNOTAVAIL));
        }
        self.way(server, source).map(|(_, server)| server)
    }

    fn check(&self, server: SocketAddr, source: IpAddr) -> io::Result<()> {
        self.way(server, Some(source)).map(drop)
    }
}
