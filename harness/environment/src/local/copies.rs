//! Files of clients that a command of the servers' user names: they are closed to it.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::MachineError;
use os::command::CommandRun;
use os::tree;
use os::user::RunAs;

/// Tells the directories of commands apart that run at a time.
static MADE: AtomicU64 = AtomicU64::new(1);

/// How long the removal of the copies is tried.
const REMOVAL: Duration = Duration::from_secs(1);

/// Copies of clients' files in a directory of its own, since the servers' user can't enter theirs: into a container they are brought as well.
/// They go as this is dropped.
pub(super) struct Copies {
    directory: Option<PathBuf>,
    /// File and copy.
    files: Vec<(String, String)>,
}

impl Copies {
    /// Copies `files` for `user`. One that does not exist is the command's to tell.
    ///
    /// # Errors
    /// [`MachineError::File`]: one can't be read or written.
    pub(super) fn make(run_directory: &Path, files: &[PathBuf], user: &RunAs) -> Result<Self, MachineError> {
        let mut copies = Self { directory: None, files: Vec::new() };
        for (index, file) in files.iter().enumerate() {
            let status = match std::fs::metadata(file) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                status => status.map_err(MachineError::file("look at", file))?,
            };
            let directory = match &copies.directory {
                Some(directory) => directory.clone(),
                None => {
                    let made = run_directory.join(format!("openssl-{}", MADE.fetch_add(1, Ordering::Relaxed)));
                    copies.directory = Some(made.clone());
                    tree::make_directory(&made, 0o700, Some(user)).map_err(MachineError::file("make", &made))?;
                    made
                }
            };
            let copy = directory.join(index.to_string());
            let contents = std::fs::read(file).map_err(MachineError::file("read", file))?;
            tree::replace(&copy, &contents, status.mode() & 0o7777, Some(user)).map_err(MachineError::file("write", &copy))?;
            copies.files.push((file.display().to_string(), copy.display().to_string()));
        }
        Ok(copies)
    }

    /// The arguments with the copies' paths.
    pub(super) fn there(&self, args: &[String]) -> Vec<String> {
        let with_copies = |arg: &String| self.files.iter().fold(arg.clone(), |arg, (file, copy)| arg.replace(file, copy));
        args.iter().map(with_copies).collect()
    }

    /// What ran, with the files' own paths: those that the scenario means.
    pub(super) fn back(&self, ran: CommandRun) -> CommandRun {
        let with_files = |text: String| self.files.iter().fold(text, |text, (file, copy)| text.replace(copy, file));
        CommandRun { command: with_files(ran.command), status: ran.status, output: with_files(ran.output) }
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        if let Some(directory) = &self.directory {
            // What can't be removed now goes with the run's directory.
            let _ = tree::remove(directory, REMOVAL);
        }
    }
}
