//! The run's own directory, removed at its end by whoever is left to do it.
//!
//! Three layers: [`RunDir::close`] at an orderly end; `Drop` after a panic; and an outside watcher, a second process of the harness's own
//! binary that waits for the end of a pipe and so also sees SIGKILL. The watcher runs as the harness's user: where that is root, it can
//! remove what servers wrote as another.

use std::io::{Read, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{shared_memory, tree};

/// The hidden subcommand that the watcher runs as.
pub const WATCH_COMMAND: &str = "watch-run-directory";

/// How the directories of runs are named.
const PREFIX: &str = "mtls-conformance-";

/// The run directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// No directory.
    #[error("could not make a run directory below {base}: {source}; is the file system full or read-only?", base = base.display())]
    Create {
        /// Where it was tried.
        base: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No watcher.
    #[error("could not start the watcher `{program} {WATCH_COMMAND}`: {source}", program = program.display())]
    Watcher {
        /// The harness's binary.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The run's directory. World-searchable, since servers may run as another user; what is secret in it has modes of its own.
#[derive(Debug)]
pub struct RunDir {
    directory: Option<TempDir>,
    watcher: Option<std::process::Child>,
}

impl RunDir {
    /// Makes the directory on `/dev/shm` where that exists (data directories are copied there), else in the temporary directory.
    /// `watcher` is the harness's own binary; `None` goes without an outside watcher.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn create(watcher: Option<&Path>) -> Result<Self, RunDirError> {
        let shared_memory = Path::new("/dev/shm");
        let base = if shared_memory.is_dir() { shared_memory.to_path_buf() } else { std::env::temp_dir() };
        Self::create_in(&base, watcher)
    }

    /// The same below `base`.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn create_in(base: &Path, watcher: Option<&Path>) -> Result<Self, RunDirError> {
        let create = |source| RunDirError::Create { base: base.to_path_buf(), source };
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(base).map_err(create)?;
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).map_err(create)?;
        let watcher = watcher.map(|program| start_watcher(program, directory.path())).transpose()?;
        Ok(Self { directory: Some(directory), watcher })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Removes it and ends the watcher.
    pub fn close(mut self) {
        self.end(false);
    }

    /// What tells it from other runs' directories: letters and digits.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        Some(self.path().file_name()?.to_str()?.strip_prefix(PREFIX)?.to_owned())
    }

    /// Leaves it where it is, for a person to look into, and ends the watcher.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        let path = self.path().to_path_buf();
        self.end(true);
        path
    }

    fn end(&mut self, keep: bool) {
        let mut removed = true;
        if let Some(directory) = self.directory.take() {
            // From here on the guard would remove it without patience for a server that is just ending.
            let path = directory.keep();
            if !keep {
                // Nobody is left to be told of a failure: the watcher, where there is one, tries again.
                removed = tree::remove(&path, REMOVAL).is_ok();
            }
        }
        if let Some(mut watcher) = self.watcher.take() {
            if let Some(mut pipe) = watcher.stdin.take().filter(|_| removed) {
                // A watcher that is told `done` leaves everything alone.
                let _ = pipe.write_all(DONE);
            }
            let _ = watcher.wait();
        }
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        self.end(false);
    }
}

fn start_watcher(program: &Path, directory: &Path) -> Result<std::process::Child, RunDirError> {
    use std::os::unix::process::CommandExt as _;
    Command::new(program)
        .arg(WATCH_COMMAND)
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|source| RunDirError::Watcher { program: program.to_path_buf(), source })
}

/// The watcher's whole life: waits for the end of standard input; unless it was told to leave everything alone, sees to it that nothing
/// works in the directory any more and removes it.
pub fn watch(directory: &Path) {
    watch_pipe(directory, std::io::stdin());
}

/// What the watcher is told at an orderly end.
const DONE: &[u8] = b"done\n";

/// How long the removal of a directory is tried in which servers are just ending.
const REMOVAL: Duration = Duration::from_secs(2);

/// How long the kernel's parent-death signals get before the watcher kills what still works in the directory. PostgreSQL takes single
/// milliseconds to end by them, and leaves shared memory behind when it is killed instead.
const PATIENCE: Duration = Duration::from_secs(3);

fn watch_pipe(directory: &Path, mut pipe: impl Read) {
    let mut told = Vec::new();
    let _ = pipe.read_to_end(&mut told);
    if told == DONE {
        return;
    }
    let start = Instant::now();
    let mut left = tree::processes_in(directory);
    while !left.is_empty() && start.elapsed() < 2 * PATIENCE {
        if start.elapsed() > PATIENCE {
            for pid in &left {
                let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
            }
        }
        // They are no children of ours, so there is no event to wait for.
        std::thread::sleep(Duration::from_millis(5));
        left = tree::processes_in(directory);
    }
    // Of those that were killed, by us or before.
    shared_memory::release_below(directory);
    let _ = tree::remove(directory, REMOVAL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_removes_and_keeping_keeps() {
        let base = tempfile::tempdir().expect("a directory");
        let closed = RunDir::create_in(base.path(), None).expect("makes");
        let path = closed.path().to_path_buf();
        std::fs::write(path.join("file"), "x").expect("writes");
        closed.close();
        assert!(!path.exists());
        let kept = RunDir::create_in(base.path(), None).expect("makes").keep();
        assert!(kept.is_dir());
    }

    #[test]
    fn a_base_that_does_not_exist_is_named() {
        let error = RunDir::create_in(Path::new("/nonexistent/base"), None).expect_err("can't be made");
        assert!(error.to_string().contains("/nonexistent/base"), "{error}");
    }

    #[test]
    fn a_watcher_that_is_told_so_leaves_everything_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        watch_pipe(directory.path(), DONE);
        assert!(directory.path().is_dir());
    }

    #[test]
    fn a_watcher_whose_pipe_just_ends_waits_for_the_last_process_and_removes_the_directory() {
        let base = tempfile::tempdir().expect("a directory");
        let directory = base.path().join("run");
        std::fs::create_dir_all(directory.join("data")).expect("makes");
        let script = "n=0; while [ $n -lt 40 ]; do n=$((n+1)); echo x > file$n; sleep 0.005; done";
        let mut child = Command::new("/bin/sh")
            .arg("-c")
            .arg(script)
            .current_dir(directory.join("data"))
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let waiter = std::thread::spawn(move || child.wait().expect("waits"));
        watch_pipe(&directory, std::io::empty());
        assert!(!directory.exists());
        assert!(waiter.join().expect("no panic").success(), "the process ended by itself");
    }
}
