//! Carries a connection's bytes, ends of stream and resets from one socket to another, as they came.
//!
//! The two directions end independently. What a sender sent before its end of stream or reset always arrives, even if it can't
//! be sent anything any more: the alert of a server that has closed already must reach the client.

use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Bytes read at once: a TLS record of the largest size, about.
const BUFFER: usize = 16 * 1024;

/// How one direction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The sender's end of stream was passed on.
    Finished,
    /// The sender reset the connection: all that it had sent was passed on.
    SenderReset,
    /// The receiver takes nothing any more.
    ReceiverGone,
    /// The filter lets nothing more pass: [`StreamFilter::is_cut`].
    Cut,
}

/// Which sides are to be reset rather than closed: that is for who has the sockets to do, with [`reset`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Resets {
    /// The side that is called the client.
    pub client: bool,
    /// The side that is called the server.
    pub server: bool,
}

/// Sees, and may change, what passes in one direction. `W` is the receiver.
pub trait StreamFilter<W> {
    /// Bytes that came from the sender, which it may change; gives the part of them that passes.
    fn pass<'a>(&mut self, bytes: &'a mut [u8]) -> &'a [u8] {
        bytes
    }

    /// Whether nothing more passes: both sides are then reset.
    fn is_cut(&self) -> bool {
        false
    }

    /// The sender's end of stream came, and is about to be passed on.
    fn sender_finished(&mut self, _to: &W) {}

    /// The sender has reset the connection.
    fn sender_reset(&mut self) {}

    /// The receiver takes nothing any more.
    fn receiver_gone(&mut self) {}
}

/// The filter that changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unfiltered;

impl<W> StreamFilter<W> for Unfiltered {}

/// One direction of a connection.
#[derive(Debug)]
pub struct Direction<R, W, P> {
    /// What the sender sends is read here.
    pub from: R,
    /// What was read and has passed the filter is written here.
    pub to: W,
    /// Gets every piece between reading and writing.
    pub filter: P,
}

/// Carries both directions until nothing more can pass.
pub async fn carry<R1, W1, P1, R2, W2, P2>(up: Direction<R1, W1, P1>, down: Direction<R2, W2, P2>) -> Resets
where
    R1: AsyncRead + Unpin,
    R2: AsyncRead + Unpin,
    W1: AsyncWrite + Unpin,
    W2: AsyncWrite + Unpin,
    P1: StreamFilter<W1>,
    P2: StreamFilter<W2>,
{
    both(copy(up), copy(down)).await
}

/// Waits for both directions, each of which ends by itself, until nothing more can pass.
///
/// A side that was reset is gone in both directions, but its last bytes may still be on their way: a direction that ended because its
/// receiver is gone waits for the other one, which reads them and ends soon.
pub async fn both(up: impl Future<Output = End>, down: impl Future<Output = End>) -> Resets {
    let (mut up, mut down) = (pin!(up), pin!(down));
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

/// Makes the coming close a reset.
pub fn reset(stream: &TcpStream) {
    // Fails only for a socket that is gone already.
    let _ = stream.set_zero_linger();
}

/// Whether the connection is over when its directions have ended like this, and which sides must be told by a reset.
fn outcome(up: Option<End>, down: Option<End>) -> Option<Resets> {
    match (up, down) {
        (Some(End::Cut), _) | (_, Some(End::Cut)) => Some(Resets { client: true, server: true }),
        (Some(End::SenderReset), _) => Some(Resets { client: false, server: true }),
        (_, Some(End::SenderReset)) => Some(Resets { client: true, server: false }),
        (Some(up), Some(down)) => Some(Resets { client: up == End::ReceiverGone, server: down == End::ReceiverGone }),
        _ => None,
    }
}

/// Carries one direction until it ends.
async fn copy<R, W, P>(direction: Direction<R, W, P>) -> End
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    P: StreamFilter<W>,
{
    let Direction { mut from, mut to, mut filter } = direction;
    let mut buffer = vec![0; BUFFER];
    loop {
        if filter.is_cut() {
            return End::Cut;
        }
        let length = match from.read(&mut buffer).await {
            Ok(0) => {
                filter.sender_finished(&to);
                // Fails only if the receiver is gone, which the other direction finds as well.
                return if to.shutdown().await.is_ok() { End::Finished } else { End::ReceiverGone };
            }
            Ok(length) => length,
            Err(_) => {
                filter.sender_reset();
                return End::SenderReset;
            }
        };
        // Never taken: read(2) gives at most what fits.
        let Some(bytes) = buffer.get_mut(..length) else { return End::SenderReset };
        if to.write_all(filter.pass(bytes)).await.is_err() {
            filter.receiver_gone();
            return End::ReceiverGone;
        }
    }
}
