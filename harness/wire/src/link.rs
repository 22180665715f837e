//! One connection through a relay: carried as [`os::carry`](os::carry) does, with a watch and faults beside it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::libc::POLLRDHUP;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;

use super::fault::{self, Fault, Tampering};
use super::watch::Watch;
use model::wire::Side;
use os::carry::{Direction, StreamFilter, carry, reset};
use os::dial::{Dialer, Dialled};

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
    let resets = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = upstream.split();
        let up = Direction { from: client_read, to: server_write, filter: Watched::new(Side::Client, faults, watch) };
        let down = Direction { from: server_read, to: client_write, filter: Watched::new(Side::Server, faults, watch) };
        carry(up, down).await
    };
    if resets.client {
        reset(&client);
    }
    if resets.server {
        reset(&upstream);
    }
    Ok(())
}

/// One direction with the watch that reads along and the faults that are done to it.
struct Watched<'a> {
    sender: Side,
    tampering: Tampering,
    watch: &'a Mutex<Watch>,
}

impl<'a> Watched<'a> {
    fn new(sender: Side, faults: &[Fault], watch: &'a Mutex<Watch>) -> Self {
        Self { sender, tampering: Tampering::new(faults, sender), watch }
    }
}

impl StreamFilter<WriteHalf<'_>> for Watched<'_> {
    fn pass<'a>(&mut self, bytes: &'a mut [u8]) -> &'a [u8] {
        lock(self.watch).sent(self.sender, bytes);
        self.tampering.apply(bytes)
    }

    fn is_cut(&self) -> bool {
        self.tampering.is_cut()
    }

    fn sender_finished(&mut self, to: &WriteHalf<'_>) {
        note_end(self.sender, to, self.watch);
    }

    fn sender_reset(&mut self) {
        lock(self.watch).closed(self.sender);
    }

    fn receiver_gone(&mut self) {
        lock(self.watch).closed(other(self.sender));
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use model::server::Service;

    /// The relay's end of a connection, and the client's.
    async fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
        (listener.accept().await.expect("accepts").0, client)
    }

    /// Who closed first, once `sender` has ended its stream and a client has, or has not, hung up.
    async fn closed_first(sender: Side, hung_up: bool, before: Option<Side>) -> Option<Side> {
        let (mut relay, mut client) = connected().await;
        if hung_up {
            client.shutdown().await.expect("ends");
            // Its end has arrived once it can be read.
            relay.readable().await.expect("it is there");
        }
        let watch = Mutex::new(Watch::new(Service::Postgres));
        if let Some(side) = before {
            lock(&watch).closed(side);
        }
        let (_read, write) = relay.split();
        note_end(sender, &write, &watch);
        drop(client);
        lock(&watch).trace().closed_first
    }

    #[tokio::test]
    async fn a_client_that_has_hung_up_when_the_servers_end_is_seen_came_first() {
        assert_eq!(closed_first(Side::Server, true, None).await, Some(Side::Client));
        assert_eq!(closed_first(Side::Server, false, None).await, Some(Side::Server), "the client is still there");
        assert_eq!(closed_first(Side::Client, false, None).await, Some(Side::Client));
        // Towards the server it is the server's end that would be seen.
        assert_eq!(closed_first(Side::Client, true, None).await, Some(Side::Client));
        assert_eq!(closed_first(Side::Server, true, Some(Side::Server)).await, Some(Side::Server), "what was noted stays");
    }

    #[test]
    fn a_side_to_which_nothing_can_be_sent_any_more_has_closed() {
        for (sender, receiver) in [(Side::Client, Side::Server), (Side::Server, Side::Client)] {
            let watch = Mutex::new(Watch::new(Service::Postgres));
            Watched::new(sender, &[], &watch).receiver_gone();
            assert_eq!(lock(&watch).trace().closed_first, Some(receiver));
        }
    }
}
