//! A server's connection in frames: docker's proxy, through which an agent's port is published, passes ends of stream on but turns
//! resets into them. So both are frames of their own between host and agent, and the agent's connection itself ends after them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};

use super::frame::{self, Kind};
use os::carry::{End, both, reset};

/// Bytes read at once: a TLS record of the largest size, about.
const BUFFER: usize = 16 * 1024;

/// Carries between a plain connection and a framed one until nothing more can pass, and closes or resets the plain one.
pub(super) async fn carry(mut plain: TcpStream, framed: TcpStream) {
    let (framed_read, mut framed_write) = framed.into_split();
    let resets = {
        let (plain_read, plain_write) = plain.split();
        both(to_frames(plain_read, &mut framed_write), from_frames(framed_read, plain_write)).await
    };
    if resets.server {
        // Fails only if nobody is there to be told.
        let _ = frame::send(&mut framed_write, Kind::Reset, &[]).await;
    }
    if resets.client {
        reset(&plain);
    }
}

async fn to_frames(mut from: ReadHalf<'_>, to: &mut OwnedWriteHalf) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        let (kind, length) = match from.read(&mut buffer).await {
            Ok(0) => (Kind::DataEnd, 0),
            Ok(length) => (Kind::Data, length),
            Err(_) => return End::SenderReset,
        };
        if frame::send(to, kind, buffer.get(..length).unwrap_or_default()).await.is_err() {
            return End::ReceiverGone;
        }
        if kind == Kind::DataEnd {
            return End::Finished;
        }
    }
}

/// An end without a frame that says so is a lost agent or host: a reset.
async fn from_frames(from: OwnedReadHalf, mut to: WriteHalf<'_>) -> End {
    let mut from = BufReader::with_capacity(BUFFER, from);
    loop {
        let passed = match frame::receive(&mut from).await {
            Ok(Some((Kind::Data, bytes))) => to.write_all(&bytes).await,
            Ok(Some((Kind::DataEnd, _))) => {
                return if to.shutdown().await.is_ok() { End::Finished } else { End::ReceiverGone };
            }
            _ => return End::SenderReset,
        };
        if passed.is_err() {
            return End::ReceiverGone;
        }
    }
}

/// Makes pairs of connected sockets, for those who want a socket where there are frames. One listener makes all of them: the port of
/// a listener of its own would be in use for a minute after each.
#[derive(Debug, Default)]
pub(super) struct Pairs(Mutex<Option<std::net::TcpListener>>);

impl Pairs {
    /// A pair. Nothing in here waits: on loopback connect(2) is done when it returns.
    ///
    /// # Errors
    /// No port or descriptor is left.
    pub(super) fn pair(&self) -> io::Result<(TcpStream, TcpStream)> {
        let mut listener = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let listener = match &mut *listener {
            Some(listener) => listener,
            none => none.insert(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
        };
        let ours = std::net::TcpStream::connect(listener.local_addr()?)?;
        let address: SocketAddr = ours.local_addr()?;
        loop {
            let (theirs, peer) = listener.accept()?;
            // Anybody on this machine can connect here; nobody gets anything.
            if peer == address {
                return Ok((of(ours)?, of(theirs)?));
            }
        }
    }
}

fn of(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    TcpStream::from_std(stream)
}
