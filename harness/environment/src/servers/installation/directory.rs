//! The directory that an installation is in.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::change::Target;
use os::{shared_memory, tree};

/// How long the removal of an installation's directory is tried.
pub(super) const REMOVAL: Duration = Duration::from_secs(2);

/// A directory that is removed when this is dropped.
pub(super) struct Directory(pub(super) PathBuf);

impl Directory {
    /// The place of a target's files, below the run's directory.
    pub(super) fn name(&self, target: Target) -> String {
        format!("{}/{target}", self.0.file_name().unwrap_or_default().to_string_lossy())
    }

    /// Leaves the logs in it, for whoever is told of an error: they go with the run's directory.
    pub(super) fn leave_logs(self) {
        // What tells of it goes with the data directories.
        shared_memory::release_below(&self.0);
        for server in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = server.path();
            let servers = path.join("log").is_dir();
            for gone in if servers { vec![path.join("data"), path.join("certificates"), path.join("run")] } else { vec![path] } {
                let _ = tree::remove(&gone, REMOVAL);
            }
        }
        std::mem::forget(self);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        shared_memory::release_below(&self.0);
        // Whatever can't be removed goes with the run's directory.
        let _ = tree::remove(&self.0, REMOVAL);
    }
}

/// A name for an installation's directory. Short: a unix socket's path has a narrow limit.
pub(super) fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("i{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
