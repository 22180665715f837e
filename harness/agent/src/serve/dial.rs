//! Connections to servers, carried over the host's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use tokio::net::{TcpStream, UnixStream};

use super::super::protocol::{Connected, Done, Failure};
use super::super::{framed, line};
use super::answer::{refuse, reply};
use os::carry::{Direction, Unfiltered, carry, reset};
use os::dial::{Dialer as _, Direct};

pub(super) async fn tcp(mut stream: TcpStream, server: SocketAddr, source: Option<IpAddr>) -> io::Result<()> {
    let dialled = tokio::select! {
        dialled = Direct.dial(server, source) => dialled,
        () = line::hung_up(&stream) => return Ok(()),
    };
    match dialled {
        Ok(dialled) => {
            reply(&mut stream, Ok(Connected { client: dialled.client })).await?;
            framed::carry(dialled.stream, stream).await;
            Ok(())
        }
        Err(error) => {
            let failure = Failure::io(format_args!("connect to {server}"), &error);
            refuse(&mut stream, failure).await
        }
    }
}

pub(super) async fn unix(mut stream: TcpStream, path: &Path) -> io::Result<()> {
    let connected = tokio::select! {
        connected = UnixStream::connect(path) => connected,
        () = line::hung_up(&stream) => return Ok(()),
    };
    let mut server = match connected {
        Ok(server) => server,
        Err(error) => {
            let failure = Failure::io(format_args!("connect to {}", path.display()), &error);
            return refuse(&mut stream, failure).await;
        }
    };
    reply(&mut stream, Ok(Done {})).await?;
    let resets = {
        let (client_read, client_write) = stream.split();
        let (server_read, server_write) = server.split();
        carry(
            Direction { from: client_read, to: server_write, filter: Unfiltered },
            Direction { from: server_read, to: client_write, filter: Unfiltered },
        )
        .await
    };
    if resets.client {
        reset(&stream);
    }
    Ok(())
}
