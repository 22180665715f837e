//! The run's own directory, removed at its end by whoever is left to do it.
//!
//! Three layers: [`RunDir::close`] at an orderly end; `Drop` after a panic; and an outside watcher, a second process of the harness's own
//! binary that waits for the end of a pipe and so also sees SIGKILL.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// The hidden subcommand that the watcher runs as.
pub const WATCH_COMMAND: &str = "watch-run-directory";

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
        let directory = tempfile::Builder::new().prefix("mtls-conformance-").tempdir_in(base).map_err(create)?;
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

    /// Leaves it where it is, for a person to look into, and ends the watcher.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        let path = self.path().to_path_buf();
        self.end(true);
        path
    }

    fn end(&mut self, keep: bool) {
        if let Some(directory) = self.directory.take() {
            if keep {
                let _ = directory.keep();
            } else {
                let _ = directory.close();
            }
        }
        if let Some(mut watcher) = self.watcher.take() {
            if let Some(mut pipe) = watcher.stdin.take() {
                // A watcher that is told `done` leaves everything alone.
                let _ = pipe.write_all(b"done\n");
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

/// The watcher's whole life: waits for the end of standard input; unless it was told `done`, removes the directory as soon as no process
/// has it as its working directory or an open file in it any more (the kernel ends those by their parent-death signal).
pub fn watch(directory: &Path) {
    let mut told = String::new();
    let _ = std::io::Read::read_to_string(&mut std::io::stdin(), &mut told);
    if told.contains("done") {
        return;
    }
    // Servers write until they are gone: repeat until a removal leaves nothing.
    for _ in 0..500 {
        let _ = std::fs::remove_dir_all(directory);
        if !directory.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}
