//! Carries one connection: bytes, ends of stream and resets go through as they came.
//!
//! The two directions end independently. What a sender sent before its end of stream or reset always arrives, even if it can't
//! be sent anything any more: the alert of a server that has closed already must reach the client.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc::POLLRDHUP;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::fault::{self, Fault, Tampering};
use super::watch::Watch;
use crate::model::wire::Side;
use crate::os::dial::{Dialer, Dialled};

/// Bytes read at once: a TLS record of the largest size, about.
const BUFFER: usize = 16 * 1024;

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The sender's end of stream was passed on.
    Finished,
    /// The sender reset the connection: all that it had sent was passed on.
    SenderReset,
    /// The receiver reset the connection.
    ReceiverReset,
    /// [`Fault::CutAfter`].
    Cut,
}

/// Which sides are to be reset rather than closed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Resets {
    client: bool,
    server: bool,
}

/// Connects to the server and carries the connection until both directions have ended.
///
/// # Errors
/// The server can't be connected; the client has been reset.
pub(super) async fn run(
    mut client: TcpStream,
    dialer: &dyn Dialer,
    server: SocketAddr,
    source: Option<IpAddr>,
    faults: &[Fault],
    watch: &Mutex<Watch>,
) -> io::Result<()> {
    // Fails only for a socket that is gone, which reading finds as well.
    let _ = client.set_nodelay(true);
    let wait = fault::delay(faults);
    if !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    let mut upstream = match dialer.dial(server, source).await {
        Ok(Dialled { stream, client }) => {
            lock(watch).connected(client);
            stream
        }
        Err(error) => {
            lock(watch).unreachable(error.to_string());
            reset(&client);
            return Err(error);
        }
    };
    let resets = carry(&mut client, &mut upstream, faults, watch).await;
    if resets.client {
        reset(&client);
    }
    if resets.server {
        reset(&upstream);
    }
    Ok(())
}

/// Carries both directions until nothing more can pass.
async fn carry(client: &mut TcpStream, server: &mut TcpStream, faults: &[Fault], watch: &Mutex<Watch>) -> Resets {
    let (client_read, client_write) = client.split();
    let (server_read, server_write) = server.split();
    let mut up = pin!(copy(client_read, server_write, Side::Client, Tampering::new(faults, Side::Client), watch));
    let mut down = pin!(copy(server_read, client_write, Side::Server, Tampering::new(faults, Side::Server), watch));
    let (mut up_end, mut down_end) = (None, None);
    loop {
        tokio::select! {
            biased;
            end = &mut up, if up_end.is_none() => up_end = Some(end),
            end = &mut down, if down_end.is_none() => down_end = Some(end),
        }
        if let Some(resets) = outcome(up_end, down_end) {
            return resets;
        }
    }
}

/// Whether the connection is over when its directions have ended like this, and which sides must be told by a reset.
///
/// A side that was reset is gone in both directions, but its last words may still be on their way: a direction that ended
/// because its receiver is gone waits for the other one, which reads them and ends soon.
fn outcome(up: Option<End>, down: Option<End>) -> Option<Resets> {
    match (up, down) {
        (Some(End::Cut), _) | (_, Some(End::Cut)) => Some(Resets { client: true, server: true }),
        (Some(End::SenderReset), _) => Some(Resets { client: false, server: true }),
        (_, Some(End::SenderReset)) => Some(Resets { client: true, server: false }),
        (Some(up), Some(down)) => Some(Resets { client: up == End::ReceiverReset, server: down == End::ReceiverReset }),
        _ => None,
    }
}

/// Carries one direction until it ends.
async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, sender: Side, mut tampering: Tampering, watch: &Mutex<Watch>) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        if tampering.is_cut() {
            return End::Cut;
        }
        let length = match from.read(&mut buffer).await {
            Ok(0) => {
                note_end(sender, &to, watch);
                // Fails only if the receiver is gone, which the other direction finds as well.
                return if to.shutdown().await.is_ok() { End::Finished } else { End::ReceiverReset };
            }
            Ok(length) => length,
            Err(_) => {
                lock(watch).closed(sender);
                return End::SenderReset;
            }
        };
        let Some(bytes) = buffer.get_mut(..length) else { return End::SenderReset };
        lock(watch).sent(sender, bytes);
        if to.write_all(tampering.apply(bytes)).await.is_err() {
            lock(watch).closed(other(sender));
            return End::ReceiverReset;
        }
    }
}

/// Notes a sender's end of stream. If the client has hung up as well by now, it came first: it can't have done so for the
/// server's end, which is still in our hands, while the server may have ended for the client's last message.
fn note_end(sender: Side, to: &WriteHalf<'_>, watch: &Mutex<Watch>) {
    let mut watch = lock(watch);
    if sender == Side::Server && !watch.has_closed() && has_hung_up(to.as_ref()) {
        watch.closed(Side::Client);
    }
    watch.closed(sender);
}

/// Whether the peer's end of stream or reset has arrived, read or not.
fn has_hung_up(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::from_bits_retain(POLLRDHUP))];
    matches!(poll(&mut polled, PollTimeout::ZERO), Ok(1))
}

/// Makes the coming close a reset.
fn reset(stream: &TcpStream) {
    // Fails only for a socket that is gone already.
    let _ = stream.set_zero_linger();
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

/// The lock; a panic of another holder leaves a trace that is as good as it was.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
