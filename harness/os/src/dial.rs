//! Connections to servers' ports, whoever makes them: this process, or an agent in a container.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};

/// A connection to a server.
#[derive(Debug)]
pub struct Dialled {
    /// What is sent to the server and comes from it. Its own addresses need not be the connection's: others may carry it on.
    pub stream: TcpStream,
    /// The client's end as the server sees it: PostgreSQL's jsonlog has it as `remote_host` and `remote_port`.
    pub client: SocketAddr,
}

/// Makes connections to servers' ports, from this machine or from elsewhere.
#[async_trait]
pub trait Dialer: Send + Sync + fmt::Debug {
    /// Connects to `server`, from `source` where one is given.
    ///
    /// # Errors
    /// Those of bind(2) and connect(2), wherever they were called. [`is_own_failure`] tells those that say nothing of the server.
    async fn dial(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<Dialled>;

    /// Whether a client that connects to `server` can have this address.
    ///
    /// # Errors
    /// That of bind(2), or its like.
    fn check(&self, server: SocketAddr, source: IpAddr) -> io::Result<()>;

    /// The address of `server` for a client that itself runs where this dialer connects from, and has `source` there.
    ///
    /// # Errors
    /// No client there can have that address.
    fn address_at_origin(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<SocketAddr> {
        let _ = source;
        Ok(server)
    }
}

/// Straight from this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

#[async_trait]
impl Dialer for Direct {
    async fn dial(&self, server: SocketAddr, source: Option<IpAddr>) -> io::Result<Dialled> {
        let socket = socket(server, source)?;
        socket.set_nodelay(true)?;
        let stream = socket.connect(server).await?;
        Ok(Dialled { client: stream.local_addr()?, stream })
    }

    fn check(&self, server: SocketAddr, source: IpAddr) -> io::Result<()> {
        socket(server, Some(source)).map(drop)
    }
}

/// A socket bound to `source`, not connected yet.
fn socket(server: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source {
        // A port chosen by bind(2) may not be in TIME_WAIT with anybody, and is used up within a minute of a few hundred
        // connections a second. Chosen by connect(2) it only has to be new to this server, and on loopback Linux takes ports
        // again that have been in TIME_WAIT for a second (ip(7), tcp_tw_reuse in the kernel's ip-sysctl).
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

/// Who makes connections for a [`Dialer`] elsewhere, and carries them, does not answer: nothing is known of the server.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ForwarderLost(pub Box<dyn std::error::Error + Send + Sync>);

/// Whether a connection failed for want of the caller's own resources, or of a forwarder: that says nothing of the server.
#[must_use]
pub fn is_own_failure(error: &io::Error) -> bool {
    use nix::libc::{EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<ForwarderLost>) {
        return true;
    }
    matches!(error.raw_os_error(), Some(EADDRINUSE | EADDRNOTAVAIL | EAGAIN | EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
