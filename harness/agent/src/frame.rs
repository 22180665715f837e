//! Frames: a kind, a length of four bytes (the highest first), and the bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes that a frame carries at most, its kind and length aside.
pub(super) const MAX_FRAME: usize = 256 * 1024;

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the child's standard input.
    Input = 1,
    /// The end of its standard input.
    InputEnd = 2,
    /// A signal's number, for the child.
    Signal = 3,
    /// SIGKILL to the child's process group.
    Kill = 4,
    /// From the child's standard output.
    Output = 5,
    /// From the child's standard error, or for its log.
    Log = 6,
    /// The child has ended: its status as wait(2) gives it.
    Exit = 7,
    /// A piece of an archive or of a connection.
    Data = 8,
    /// The end of an archive, or of what one side of a connection sends.
    DataEnd = 9,
    /// The archive can't be had: a [`Failure`](super::protocol::Failure) in JSON.
    Failed = 10,
    /// The sender has reset its connection.
    Reset = 11,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Input,
        Self::InputEnd,
        Self::Signal,
        Self::Kill,
        Self::Output,
        Self::Log,
        Self::Exit,
        Self::Data,
        Self::DataEnd,
        Self::Failed,
        Self::Reset,
    ];
}

/// Bytes that are no frame, or would be none. The source of an [`io::Error`], since reading and writing fail by those too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {length} bytes, of at most {MAX_FRAME}")]
    TooLong { length: usize },
    #[error("a frame of the kind {0}")]
    UnknownKind(u8),
    #[error("a frame of the kind {0:?}, which an agent does not send about a child")]
    UnexpectedKind(Kind),
    #[error("a number of not four bytes")]
    NoNumber,
}

impl FrameError {
    /// As an error of what was received.
    pub(super) fn received(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

/// Sends a frame.
///
/// # Errors
/// Those of the socket; `InvalidInput` for a frame that is too long.
pub(super) async fn send(to: &mut (impl AsyncWrite + Unpin), kind: Kind, bytes: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, FrameError::TooLong { length: bytes.len() });
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= MAX_FRAME).ok_or_else(too_long)?;
    // One write: the receiver sees it at once and whole.
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind as u8);
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    to.write_all(&frame).await
}

/// Receives a frame; `None` at the end of the stream. Not cancel-safe.
///
/// # Errors
/// Those of the socket; `InvalidData` for what is no frame.
pub(super) async fn receive(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut kind = [0];
    if from.read(&mut kind).await? == 0 {
        return Ok(None);
    }
    let [number] = kind;
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == number).ok_or_else(|| FrameError::UnknownKind(number).received())?;
    let length = from.read_u32().await? as usize;
    if length > MAX_FRAME {
        return Err(FrameError::TooLong { length }.received());
    }
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes).await?;
    Ok(Some((kind, bytes)))
}

/// The number in a frame of four bytes.
pub(super) fn number(bytes: &[u8]) -> io::Result<i32> {
    let bytes: [u8; 4] = bytes.try_into().map_err(|_| FrameError::NoNumber.received())?;
    Ok(i32::from_be_bytes(bytes))
}
