//! What runs leave for whoever looks into a failure: a directory for each run, and in it a list of all that the run has written there.
//!
//! A run that begins removes what earlier runs have left, going by their lists: what somebody else put beside it stays. A run holds the
//! lock of its list as long as it lives, so that one that begins beside it leaves its files alone.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::tree;

/// The list in a run's directory.
const LIST: &str = ".mtls-conformance";

/// Its first line: a file without it is no such list.
const HEAD: &str = "Written by mtls-conformance: its next run removes these files, and the directories that are empty then.";

/// The longest name of a directory, in bytes: file systems take 255.
const NAME: usize = 200;

/// Something could not be written, or what an earlier run left could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}: {source}", path = path.display())]
pub struct EvidenceError {
    /// `make`, `write`, `list`, `read`, `remove`.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system call said.
    pub source: io::Error,
}

/// For `map_err`.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EvidenceError {
    let path = path.to_path_buf();
    move |source| EvidenceError { action, path, source }
}

/// What one run leaves.
#[derive(Debug)]
pub struct EvidenceStore {
    base: PathBuf,
    name: String,
    /// Made when there is something to write.
    run: Mutex<Option<RunDirectory>>,
}

#[derive(Debug)]
struct RunDirectory {
    path: PathBuf,
    /// Its lock says that the run lives. A file system that has no locks does without.
    list: Flocked,
}

#[derive(Debug)]
enum Flocked {
    Locked(Flock<File>),
    Not(File),
}

impl Flocked {
    fn file(&mut self) -> &mut File {
        match self {
            Self::Locked(file) => file,
            Self::Not(file) => file,
        }
    }
}

impl EvidenceStore {
    /// The store of a run, in the directory `name` below `base` or one of a name like it. Nothing is made before it is needed.
    #[must_use]
    pub fn new(base: &Path, name: &str) -> Self {
        Self { base: base.to_path_buf(), name: name.to_owned(), run: Mutex::default() }
    }

    /// The directory that all runs' directories are in.
    #[must_use]
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Makes a directory that nobody else may look into, under this name or one like it; its path, for [`EvidenceStore::write`].
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn make(&self, name: &str) -> Result<PathBuf, EvidenceError> {
        self.with(|run| {
            let made = make_another(&run.path, name)?;
            run.list(&made, "/")?;
            Ok(made)
        })
    }

    /// The directory of this name, made if it isn't there.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub fn shared(&self, name: &str) -> Result<PathBuf, EvidenceError> {
        self.with(|run| {
            let path = run.path.join(shortened(name, NAME));
            run.list(&path, "/")?;
            tree::make_private_directories(&path).map_err(failed("make", &path))?;
            Ok(path)
        })
    }

    /// Writes a file that nobody else may read into a directory of [`EvidenceStore::make`] or [`EvidenceStore::shared`].
    ///
    /// # Errors
    /// [`EvidenceError`]. A part of it may have been written.
    pub fn write(&self, directory: &Path, name: &str, contents: &[u8]) -> Result<(), EvidenceError> {
        let path = directory.join(name);
        // Listed first: whatever happens next, no file is there that is not in the list.
        self.with(|run| run.list(&path, ""))?;
        tree::write_private(&path, contents).map_err(failed("write", &path))
    }

    fn with<T>(&self, act: impl FnOnce(&mut RunDirectory) -> Result<T, EvidenceError>) -> Result<T, EvidenceError> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        let run = match &mut *run {
            Some(run) => run,
            none => none.insert(RunDirectory::make(&self.base, &self.name)?),
        };
        act(run)
    }
}

impl RunDirectory {
    fn make(base: &Path, name: &str) -> Result<Self, EvidenceError> {
        if let Some(parent) = base.parent() {
            // Open to others, other than the evidence: reports lie beside it.
            std::fs::create_dir_all(parent).map_err(failed("make", parent))?;
        }
        tree::make_private_directories(base).map_err(failed("make", base))?;
        let path = make_another(base, name)?;
        // Under another name until it is locked: without its lock it is the list of a run that is over.
        let new = path.join(format!("{LIST}.new"));
        let made = tree::create_private(&new).and_then(|mut file| file.write_all(format!("{HEAD}\n").as_bytes()).map(|()| file));
        let list = made.map_err(failed("write", &new))?;
        let list = Flock::lock(list, FlockArg::LockExclusiveNonblock).map_or_else(|(file, _)| Flocked::Not(file), Flocked::Locked);
        std::fs::rename(&new, path.join(LIST)).map_err(failed("write", &new))?;
        Ok(Self { path, list })
    }

    /// Adds a path below this directory to the list; one of a directory ends with `/`.
    fn list(&mut self, path: &Path, end: &str) -> Result<(), EvidenceError> {
        let relative = path.strip_prefix(&self.path).unwrap_or(path);
        let line = format!("{}{end}\n", relative.display());
        self.list.file().write_all(line.as_bytes()).map_err(failed("write", &self.path.join(LIST)))
    }
}

/// Makes the directory `name`, or `name-2` and so on where that is there.
fn make_another(base: &Path, name: &str) -> Result<PathBuf, EvidenceError> {
    let name = shortened(name, NAME);
    let mut path = base.join(name);
    let mut number = 1;
    loop {
        match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                number += 1;
                path = base.join(format!("{name}-{number}"));
            }
            made => return made.map(|()| path.clone()).map_err(failed("make", &path)),
        }
    }
}

/// The beginning of a name, where it is too long for a file's.
fn shortened(name: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    &name[..end]
}

/// Removes what runs that are over have written below `base`, going by their lists.
///
/// # Errors
/// The first [`EvidenceError`]; what else could be removed is gone all the same.
pub fn remove_finished(base: &Path) -> Result<(), EvidenceError> {
    let entries = match std::fs::read_dir(base) {
        // There is nothing, or no place for anything: who wants to write there is told.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        entries => entries.map_err(failed("list", base))?,
    };
    let mut result = Ok(());
    for entry in entries.flatten().filter(|entry| is_directory(&entry.path())) {
        result = result.and(remove_if_finished(&entry.path()));
    }
    result
}

/// A directory itself, not a link to one.
fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn remove_if_finished(run: &Path) -> Result<(), EvidenceError> {
    let path = run.join(LIST);
    let list = match File::options().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(&path) {
        // None of ours, or a directory that is just being made.
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ELOOP as i32) => return Ok(()),
        opened => opened.map_err(failed("remove", run))?,
    };
    // Whoever holds the lock lives, or is removing it. Where there are no locks nobody can tell.
    let Ok(mut list) = Flock::lock(list, FlockArg::LockExclusiveNonblock) else { return Ok(()) };
    let mut text = String::new();
    list.read_to_string(&mut text).map_err(failed("read", &path))?;
    let Some(files) = text.strip_prefix(HEAD) else { return Ok(()) };
    let mut directories = BTreeSet::new();
    for line in files.lines().filter(|line| is_below(run, Path::new(line))) {
        match line.strip_suffix('/') {
            Some(directory) => {
                directories.insert(directory);
            }
            None => removed(std::fs::remove_file(run.join(line))).map_err(failed("remove", &run.join(line)))?,
        }
    }
    for directory in directories {
        removed(std::fs::remove_dir(run.join(directory))).map_err(failed("remove", &run.join(directory)))?;
    }
    std::fs::remove_file(&path).map_err(failed("remove", &path))?;
    removed(std::fs::remove_dir(run)).map_err(failed("remove", run))
}

/// Whether a listed path leads to a place below the run's directory, over directories that are no links.
fn is_below(run: &Path, file: &Path) -> bool {
    let plain = file.components().next().is_some() && file.components().all(|part| matches!(part, Component::Normal(_)));
    plain && file.ancestors().skip(1).all(|directory| is_directory(&run.join(directory)))
}

/// A removal that found nothing, or files of others, is as good as one.
fn removed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All paths below a directory.
    fn below(directory: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![directory.to_path_buf()];
        while let Some(next) = waiting.pop() {
            for entry in std::fs::read_dir(next).expect("there").flatten() {
                found.push(entry.path().strip_prefix(directory).expect("below").display().to_string());
                if is_directory(&entry.path()) {
                    waiting.push(entry.path());
                }
            }
        }
        found.sort();
        found
    }

    fn store(base: &Path) -> EvidenceStore {
        EvidenceStore::new(base, "run")
    }

    #[test]
    fn what_a_run_that_is_over_has_written_goes_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().join("reports/evidence");
        let run = store(&base);
        let (first, second) = (run.make("case").expect("makes"), run.make("case").expect("makes"));
        for directory in [&first, &second] {
            run.write(directory, "case.json", b"{}").expect("writes");
        }
        std::fs::write(second.join("notes.txt"), "mine").expect("writes");
        std::fs::create_dir(base.join("own")).expect("makes");
        std::fs::write(base.join("own/case.json"), "mine").expect("writes");
        let written = ["own", "own/case.json", "run", "run/.mtls-conformance", "run/case", "run/case-2", "run/case-2/case.json"];
        assert_eq!(below(&base)[..7], written);

        remove_finished(&base).expect("removes");
        assert!(first.join("case.json").is_file(), "it lives");
        drop(run);
        remove_finished(&base).expect("removes");
        assert_eq!(below(&base), ["own", "own/case.json", "run", "run/case-2", "run/case-2/notes.txt"]);
    }

    #[test]
    fn two_runs_at_a_time_have_directories_of_their_own() {
        let base = tempfile::tempdir().expect("a directory");
        let (one, other) = (store(base.path()), store(base.path()));
        let paths = [&one, &other].map(|run| run.make("case").expect("makes"));
        assert_eq!(paths, ["run/case", "run-2/case"].map(|path| base.path().join(path)));
        drop(one);
        remove_finished(base.path()).expect("removes");
        assert_eq!(below(base.path()), ["run-2", "run-2/.mtls-conformance", "run-2/case"]);
    }

    #[test]
    fn nothing_is_made_before_it_is_needed() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path().join("evidence");
        let run = store(&base);
        remove_finished(&base).expect("there is nothing");
        assert_eq!(run.base(), base);
        assert!(!base.exists());
    }

    #[test]
    fn a_list_leads_nowhere_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let (base, kept) = (directory.path().join("evidence"), directory.path().join("kept"));
        let run = base.join("run");
        std::fs::create_dir_all(&run).expect("makes");
        std::fs::create_dir(&kept).expect("makes");
        std::fs::write(kept.join("file"), "").expect("writes");
        std::os::unix::fs::symlink(&kept, run.join("link")).expect("links");
        let lines = ["../../kept/file", "link/file", &kept.join("file").display().to_string(), "", "."].join("\n");
        std::fs::write(run.join(LIST), format!("{HEAD}\n{lines}\n")).expect("writes");
        remove_finished(&base).expect("removes");
        assert!(kept.join("file").is_file() && run.join("link").is_symlink());
        std::fs::write(run.join(LIST), "something else\nlink\n").expect("writes");
        remove_finished(&base).expect("it is no list");
        assert!(run.join("link").is_symlink() && run.join(LIST).is_file());
    }

    #[test]
    fn what_can_not_be_written_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("writes");
        let error = store(&file).make("case").expect_err("it is a file").to_string();
        assert!(error.starts_with(&format!("could not make {}", file.display())), "{error}");
        remove_finished(&file).expect("there is nothing to remove");
    }

    #[test]
    fn a_name_that_no_file_can_have_is_cut() {
        let base = tempfile::tempdir().expect("a directory");
        let made = store(base.path()).make(&"é".repeat(NAME)).expect("makes");
        assert_eq!(made.file_name().expect("one").len(), NAME);
        assert_eq!(shortened("aé", 2), "a");
    }
}
