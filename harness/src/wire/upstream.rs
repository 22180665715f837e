//! The relay's own connection to the server, from a chosen address.

use std::io;
use std::net::{IpAddr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream};

/// Connects to `server`, from `source` if one is given.
pub(super) async fn connect(server: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = socket(server, source)?;
    socket.set_nodelay(true)?;
    socket.connect(server).await
}

/// A socket bound to `source`, not connected yet.
pub(super) fn socket(server: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpSocket> {
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

/// Whether a connection failed for want of the relay's own resources: that says nothing of the server.
pub(super) fn is_own_failure(error: &io::Error) -> bool {
    use nix::libc::{EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EADDRINUSE | EADDRNOTAVAIL | EAGAIN | EMFILE | ENFILE | ENOBUFS | ENOMEM))
}
