//! Lines of JSON, read without a byte too many: what comes after them is somebody else's.

use std::io;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// The longest line. A file of half of it still fits in base64.
pub(super) const MAX_LINE: usize = 32 * 1024 * 1024;

/// A line is longer than may be sent, or than is read of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a line of {length} bytes, of at most {max}")]
pub(super) struct LineTooLong {
    /// Of what was received, the part that had come until then.
    length: usize,
    max: usize,
}

/// Bytes looked at, at once.
const STEP: usize = 64 * 1024;

/// Sends a value as a line.
///
/// # Errors
/// Those of the socket; `InvalidInput` for a line that is too long.
pub(super) async fn send<T: Serialize>(stream: &mut TcpStream, value: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(io::Error::from)?;
    line.push(b'\n');
    if line.len() > MAX_LINE {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, LineTooLong { length: line.len(), max: MAX_LINE }));
    }
    stream.write_all(&line).await
}

/// Reads one line, and parses it.
///
/// # Errors
/// Those of the socket; `UnexpectedEof` before its end; `InvalidData` for what is too long or isn't such a value.
pub(super) async fn receive<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let line = read(stream, MAX_LINE).await?;
    serde_json::from_slice(&line).map_err(io::Error::from)
}

/// Reads one line; its end is left out.
///
/// # Errors
/// As [`receive`].
pub(super) async fn read(stream: &mut TcpStream, max: usize) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut seen = vec![0; 1024];
    loop {
        let length = stream.peek(&mut seen).await?;
        let ahead = seen.get(..length).unwrap_or_default();
        if ahead.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = ahead.iter().position(|byte| *byte == b'\n');
        let take = end.map_or(length, |end| end + 1);
        if line.len() + take > max {
            return Err(io::Error::new(io::ErrorKind::InvalidData, LineTooLong { length: line.len() + take, max }));
        }
        let start = line.len();
        line.resize(start + take, 0);
        stream.read_exact(line.get_mut(start..).unwrap_or_default()).await?;
        if end.is_some() {
            line.pop();
            return Ok(line);
        }
        seen.resize(STEP, 0);
    }
}

/// Waits until the peer has hung up. For connections on which it has nothing more to send; what it sends is thrown away.
pub(super) async fn hung_up(stream: &TcpStream) {
    let mut buffer = [0; 64];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut buffer) {
            Ok(1..) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            _ => return,
        }
    }
}

/// Makes the system find out within a minute that the other end is gone without a word.
pub(super) fn keep_alive(stream: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    const IDLE: Duration = Duration::from_secs(15);
    const INTERVAL: Duration = Duration::from_secs(5);
    const PROBES: u32 = 9;
    // Fails only for a socket that is gone.
    let _ = setsockopt(stream, sockopt::KeepAlive, &true);
    let _ = setsockopt(stream, sockopt::TcpKeepIdle, &u32::try_from(IDLE.as_secs()).unwrap_or(15));
    let _ = setsockopt(stream, sockopt::TcpKeepInterval, &u32::try_from(INTERVAL.as_secs()).unwrap_or(5));
    let _ = setsockopt(stream, sockopt::TcpKeepCount, &PROBES);
}
