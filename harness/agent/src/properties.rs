//! What holds for any bytes that the two ends of an agent's connection can receive. Property tests and the fuzz targets of `harness/fuzz`
//! call these functions with inputs of their own making; each panics where its property does not hold.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::frame::{self, Kind};
use super::protocol::{Envelope, RelayRequest, Request};

/// Frames are received alike whole and byte by byte, are the bytes that sending them gives, and end with the stream or with an error that
/// tells a cut from what is no frame.
///
/// # Panics
/// Where that does not hold.
pub fn frames(bytes: &[u8]) {
    let (received, end) = received(bytes, bytes.len().max(1));
    assert_eq!(received_bytewise(bytes), (received.clone(), end), "byte by byte");
    let sent: Vec<u8> = received.iter().flat_map(|(kind, content)| sent(*kind, content)).collect();
    assert!(bytes.starts_with(&sent), "what was received is what would be sent");
    match end {
        None => assert_eq!(sent.len(), bytes.len(), "the stream ends behind a frame"),
        Some(error) => assert!(matches!(error, io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData), "{error}"),
    }
    for (_, content) in &received {
        assert_eq!(frame::number(content).is_ok(), content.len() == 4, "a number has four bytes");
    }
}

type Received = (Vec<(Kind, Vec<u8>)>, Option<io::ErrorKind>);

fn received_bytewise(bytes: &[u8]) -> Received {
    received(bytes, 1)
}

/// The frames in a stream that gives `step` bytes at once, and the error behind them.
fn received(bytes: &[u8], step: usize) -> Received {
    let mut stream = Pieces { bytes, step };
    let mut frames = Vec::new();
    loop {
        match ready(frame::receive(&mut stream)) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error.kind())),
        }
    }
}

/// The bytes of a frame.
pub(super) fn sent(kind: Kind, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    ready(frame::send(&mut bytes, kind, content)).expect("memory takes all");
    bytes
}

/// A line is no request, or one that stays itself when it is written again; the same for what is asked of a relay.
///
/// # Panics
/// Where that does not hold.
pub fn request(line: &[u8]) {
    if let Ok(envelope) = serde_json::from_slice::<Envelope<Request>>(line) {
        let written = serde_json::to_vec(&envelope).expect("what was read can be written");
        assert!(!written.contains(&b'\n'), "a request is a line");
        let again: Envelope<Request> = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("it can be written"), written);
        assert_eq!(again.request.to_string(), envelope.request.to_string(), "it is shown alike");
    }
    if let Ok(asked) = serde_json::from_slice::<RelayRequest>(line) {
        let written = serde_json::to_vec(&asked).expect("what was read can be written");
        let again: RelayRequest = serde_json::from_slice(&written).expect("what was written can be read");
        assert_eq!(serde_json::to_vec(&again).expect("it can be written"), written);
    }
}

/// What a future gives that never waits, as all of those over memory.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("memory is always ready"),
    }
}

/// A stream that gives at most `step` bytes at once.
struct Pieces<'a> {
    bytes: &'a [u8],
    step: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let length = self.step.min(buffer.remaining()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(length);
        buffer.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
