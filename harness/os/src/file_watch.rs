//! Waits for a file to be written to, by inotify: no polling.

use std::io;
use std::path::{Path, PathBuf};

use inotify::{Inotify, WatchMask};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A file could not be followed.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}: {source}", path = path.display())]
pub struct FileWatchError {
    /// What was tried with it, to be read on after "could not".
    pub action: &'static str,
    /// The file that was to be followed.
    pub path: PathBuf,
    /// What the system call said.
    pub source: io::Error,
}

/// A watch of one file. Needs a tokio runtime, and lives no longer than that.
#[derive(Debug)]
pub struct FileWatch {
    events: AsyncFd<Inotify>,
}

impl FileWatch {
    /// Begins to watch `path`, which must exist. What was written before is for the caller to read.
    ///
    /// # Errors
    /// [`FileWatchError`]: no such file, or no inotify instance left.
    pub fn of(path: &Path) -> Result<Self, FileWatchError> {
        let error = |action| move |source| FileWatchError { action, path: path.to_path_buf(), source };
        // inotify instances are few (fs.inotify.max_user_instances): one a file, and the message says what ran out.
        let inotify = Inotify::init().map_err(error("get an inotify instance (fs.inotify.max_user_instances) to follow"))?;
        inotify.watches().add(path, WatchMask::MODIFY).map_err(error("watch"))?;
        Ok(Self { events: register(inotify).map_err(error("wait for"))? })
    }

    /// Waits until it was written to since the last call. Cancel-safe.
    ///
    /// # Errors
    /// Those of the system calls.
    pub async fn wait(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        loop {
            let mut ready = self.events.readable_mut().await?;
            match ready.try_io(|inotify| inotify.get_mut().read_events(&mut buffer).map(Iterator::count)) {
                Ok(result) => return result.map(drop),
                Err(_would_block) => {}
            }
        }
    }
}

#[expect(unsafe_code, reason = "tokio has no safe way to wait for a file descriptor that it can't see the ownership of")]
fn register(inotify: Inotify) -> io::Result<AsyncFd<Inotify>> {
    // SAFETY: `Inotify` owns its descriptor, which stays open and the same until it is dropped; it is never taken out or closed.
    unsafe { AsyncFd::register_with_interest(inotify, Interest::READABLE) }.map_err(io::Error::from)
}
