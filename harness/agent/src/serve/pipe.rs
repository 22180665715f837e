//! A pipe for a child's errors.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use tokio::net::unix::pipe::Receiver;

/// The end that a child writes to, by a path under which [`ChildSpec`](os::child::ChildSpec) can open it as its log.
pub(super) struct WriteEnd(OwnedFd);

impl WriteEnd {
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// A pipe. The write end must be dropped once the child has its own.
pub(super) fn pipe() -> io::Result<(Receiver, WriteEnd)> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
    Ok((Receiver::from_owned_fd(read)?, WriteEnd(write)))
}

/// What is in the pipe now, without waiting for more: what a child wrote before its end, while a grandchild may hold the pipe open.
pub(super) fn rest(pipe: &Receiver, max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while all.len() < max {
        // Not the runtime's read, which tries only what it has been told is there.
        match nix::unistd::read(pipe, &mut buffer) {
            Ok(length @ 1..) => all.extend(buffer.iter().take(length)),
            Err(Errno::EINTR) => {}
            _ => break,
        }
    }
    all
}
