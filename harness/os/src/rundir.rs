//! The run's own directory, removed at its end by whoever is left to do it.
//!
//! Four layers: [`RunDir::close`] at an orderly end; `Drop` after a panic; an outside watcher, a second process of the harness's own binary
//! that waits for the end of a pipe and so also sees SIGKILL; and the next run, which removes what is left where the watcher was killed, too.
//! The watcher runs as the harness's user: where that is root, it can remove what servers wrote as another.
//!
//! What a run owns outside of its directory, such as containers, is entrusted to the watcher by a name; how such a thing is removed is known
//! further up.

use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::owner::Owner;
use super::space::{Megabytes, Space, Unfit, list};
use super::user::RunAs;
use super::{shared_memory, tree};

/// The hidden subcommand that the watcher runs as.
pub const WATCH_COMMAND: &str = "watch-run-directory";

/// How the directories of runs are named.
const PREFIX: &str = "mtls-conformance-";

/// The file in it that names the process which it belongs to.
const OWNER: &str = ".owner";

/// The run directory could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The directory, its mode, or the file in it that names its owner.
    #[error("could not make a run directory below {base}: {source}; is the file system full or read-only?", base = base.display())]
    Create {
        /// Where it was tried.
        base: PathBuf,
        /// What the system call said.
        source: io::Error,
    },
    /// No place has room for it.
    #[error(
        "no place has the {} free that this run needs: {}; free some there, or name another place with --run-dir DIR \
         (MTLS_CONFORMANCE_RUN_DIR)",
        Megabytes(*needed),
        list(unfit)
    )]
    NoPlace {
        /// What is wrong with each.
        unfit: Vec<Unfit>,
        /// In bytes.
        needed: u64,
    },
    /// The place that was named has no room for it.
    #[error(
        "the run's directory, which needs {}, can't be in the place that --run-dir or MTLS_CONFORMANCE_RUN_DIR names: {}; name another one",
        Megabytes(*needed),
        list(unfit)
    )]
    NamedPlace {
        /// What is wrong with it.
        unfit: Vec<Unfit>,
        /// In bytes.
        needed: u64,
    },
    /// The process that removes the directory after a SIGKILL does not run.
    #[error("could not start the watcher `{program} {WATCH_COMMAND}`: {source}", program = program.display())]
    Watcher {
        /// The harness's own binary.
        program: PathBuf,
        /// What fork(2) or execve(2) said.
        source: io::Error,
    },
}

/// The watcher reads names line by line, and takes one of them for the orderly end: it would not get this one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} can't be entrusted to the watcher: a name is one line that is not empty, and not `{DONE}`")]
pub struct UnusableName(pub String);

/// The run's directory. Nobody else looks in: where we are root and servers run as another user, they come in by their group.
#[derive(Debug)]
pub struct RunDir {
    directory: Option<TempDir>,
    watcher: Option<std::process::Child>,
    /// Whether the watcher has more to do than the directory.
    entrusted: bool,
    unfit: Vec<Unfit>,
}

impl RunDir {
    /// Makes the directory where there is room for it. `watcher` is the harness's own binary; `None` goes without an outside watcher.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn create(space: &Space, watcher: Option<&Path>) -> Result<Self, RunDirError> {
        let no_room = |unfit| match space.directory {
            Some(_) => RunDirError::NamedPlace { unfit, needed: space.bytes },
            None => RunDirError::NoPlace { unfit, needed: space.bytes },
        };
        let place = space.find().map_err(no_room)?;
        let mut made = Self::create_in(&place.directory, watcher)?;
        made.unfit = place.unfit;
        Ok(made)
    }

    /// The same below `base`.
    ///
    /// # Errors
    /// [`RunDirError`].
    pub fn create_in(base: &Path, watcher: Option<&Path>) -> Result<Self, RunDirError> {
        let create = |source| RunDirError::Create { base: base.to_path_buf(), source };
        let closed = std::fs::Permissions::from_mode(0o700);
        let directory = tempfile::Builder::new().prefix(PREFIX).permissions(closed).tempdir_in(base).map_err(create)?;
        if let Some(user) = RunAs::of_this_run() {
            nix::unistd::chown(directory.path(), None, Some(user.ids().1)).map_err(|error| create(error.into()))?;
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o710)).map_err(create)?;
        }
        // Before there is anything else in it: what has no owner is nobody's to remove.
        if let Ok(owner) = Owner::current() {
            std::fs::write(directory.path().join(OWNER), owner.line()).map_err(create)?;
            sweep(base, &owner);
        }
        let watcher = watcher.map(|program| start_watcher(program, directory.path())).transpose()?;
        Ok(Self { directory: Some(directory), watcher, entrusted: false, unfit: Vec::new() })
    }

    /// The places that were looked at before the one that it is in.
    #[must_use]
    pub fn unfit(&self) -> &[Unfit] {
        &self.unfit
    }

    /// Its absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new(""), TempDir::path)
    }

    /// Entrusts something outside of the directory to the watcher, before it comes into being: where neither [`RunDir::close`] nor
    /// [`RunDir::keep`] is reached, the watcher's `orphan` gets this name. Without a watcher nothing happens.
    ///
    /// # Errors
    /// Those of writing to the watcher, such as that it is gone; [`UnusableName`] for one that it could not be told.
    pub fn entrust(&mut self, name: &str) -> io::Result<()> {
        if name.is_empty() || name.contains('\n') || name == DONE {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, UnusableName(name.to_owned())));
        }
        if let Some(pipe) = self.watcher.as_mut().and_then(|watcher| watcher.stdin.as_mut()) {
            pipe.write_all(format!("{name}\n").as_bytes())?;
            self.entrusted = true;
        }
        Ok(())
    }

    /// Removes it and ends the watcher. What was entrusted to it must be gone.
    pub fn close(mut self) {
        self.entrusted = false;
        self.end(false);
    }

    /// What tells it from other runs' directories, of letters and digits; `None` for a directory of another name.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        Some(self.path().file_name()?.to_str()?.strip_prefix(PREFIX)?.to_owned())
    }

    /// Leaves it where it is, for a person to look into, and ends the watcher. What was entrusted to it must be gone.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        let path = self.path().to_path_buf();
        self.entrusted = false;
        self.end(true);
        path
    }

    fn end(&mut self, keep: bool) {
        let mut removed = true;
        if let Some(directory) = self.directory.take() {
            // From here on the guard would remove it without patience for a server that is just ending.
            let path = directory.keep();
            // Of a server that somebody else killed.
            shared_memory::release_below(&path);
            if !keep {
                // Nobody is left to be told of a failure: the watcher, where there is one, tries again.
                removed = tree::remove(&path, REMOVAL).is_ok();
            }
        }
        if let Some(mut watcher) = self.watcher.take() {
            if let Some(mut pipe) = watcher.stdin.take().filter(|_| removed && !self.entrusted) {
                // A watcher that is told `done` leaves everything alone.
                let _ = writeln!(pipe, "{DONE}");
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

/// Removes the directories of earlier runs whose process is gone: for the case that both a harness and its watcher were killed. Those of
/// other users, of other machines and of runs that live stay.
fn sweep(base: &Path, viewer: &Owner) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX)) {
        let ours = entry.metadata().is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw());
        let owner = || Owner::from_line(&std::fs::read_to_string(entry.path().join(OWNER)).ok()?);
        if ours && owner().is_some_and(|owner| owner.is_gone(viewer)) {
            clear(&entry.path());
        }
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
/// works in the directory any more and removes it. Meanwhile it calls `orphan` with each name that was entrusted to it.
pub fn watch(directory: &Path, orphan: impl Fn(&str) + Sync) {
    watch_pipe(directory, io::stdin(), orphan);
}

/// What the watcher is told at an orderly end, as its last line.
const DONE: &str = "done";

/// How long the removal of a directory is tried in which servers are just ending.
const REMOVAL: Duration = Duration::from_secs(2);

/// How long the kernel's parent-death signals get before the watcher kills what still works in the directory. PostgreSQL takes single
/// milliseconds to end by them, and leaves shared memory behind when it is killed instead.
const PATIENCE: Duration = Duration::from_secs(3);

fn watch_pipe(directory: &Path, mut pipe: impl Read, orphan: impl Fn(&str) + Sync) {
    let mut told = Vec::new();
    let _ = pipe.read_to_end(&mut told);
    let told = String::from_utf8_lossy(&told);
    // A line that was cut short by the end of the harness is a name that nothing has.
    let names: Vec<&str> = told.lines().collect();
    if names.last() == Some(&DONE) {
        return;
    }
    std::thread::scope(|scope| {
        for name in names {
            let orphan = &orphan;
            scope.spawn(move || orphan(name));
        }
        clear(directory);
    });
}

/// Sees to it that nothing works in the directory any more, and removes it.
fn clear(directory: &Path) {
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
    use std::collections::BTreeSet;
    use std::sync::Mutex;

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
    fn nobody_else_may_look_in_but_the_servers_group_which_may_pass() {
        let base = tempfile::tempdir().expect("a directory");
        let directory = RunDir::create_in(base.path(), None).expect("makes");
        let status = std::fs::metadata(directory.path()).expect("there");
        match RunAs::of_this_run() {
            None => assert_eq!(status.mode() & 0o777, 0o700),
            Some(user) => assert_eq!((status.mode() & 0o777, status.uid(), status.gid()), (0o710, 0, user.gid)),
        }
    }

    #[test]
    fn a_new_directory_clears_away_those_of_dead_processes_and_no_others() {
        let base = tempfile::tempdir().expect("a directory");
        let living = RunDir::create_in(base.path(), None).expect("makes");
        let make = |name: &str, owner: Option<&Owner>| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).expect("makes");
            if let Some(owner) = owner {
                std::fs::write(path.join(OWNER), owner.line()).expect("writes");
            }
            path
        };
        let viewer = Owner::current().expect("/proc");
        let mut child = Command::new("true").spawn().expect("starts");
        child.wait().expect("ends");
        let dead = Owner { pid: child.id().to_string(), ..viewer.clone() };
        let left = make("mtls-conformance-left", Some(&dead));
        let nobodys = make("mtls-conformance-nobodys", None);
        let elsewhere = make("mtls-conformance-elsewhere", Some(&Owner { host: "another-host".to_owned(), ..dead.clone() }));
        let foreign = make("foreign", Some(&dead));
        let next = RunDir::create_in(base.path(), None).expect("makes");
        assert!(!left.exists(), "its process is gone");
        for stays in [living.path(), next.path(), &nobodys, &elsewhere, &foreign] {
            assert!(stays.is_dir(), "{} stays", stays.display());
        }
    }

    #[test]
    fn a_base_that_does_not_exist_is_named() {
        let error = RunDir::create_in(Path::new("/nonexistent/base"), None).expect_err("can't be made");
        assert!(error.to_string().contains("/nonexistent/base"), "{error}");
    }

    #[test]
    fn a_watcher_that_is_told_so_leaves_everything_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let orphan = |name: &str| panic!("{name} is not orphaned");
        watch_pipe(directory.path(), "containers\ndone\n".as_bytes(), orphan);
        watch_pipe(directory.path(), "done\n".as_bytes(), orphan);
        assert!(directory.path().is_dir());
    }

    #[test]
    fn a_watcher_whose_pipe_just_ends_looks_after_what_was_entrusted_to_it() {
        let base = tempfile::tempdir().expect("a directory");
        let directory = base.path().join("run");
        std::fs::create_dir(&directory).expect("makes");
        let orphans = Mutex::new(BTreeSet::new());
        watch_pipe(&directory, "one\ntwo\n".as_bytes(), |name| {
            orphans.lock().expect("no panic").insert(name.to_owned());
        });
        assert_eq!(orphans.into_inner().expect("no panic"), ["one".to_owned(), "two".to_owned()].into());
        assert!(!directory.exists());
    }

    #[test]
    fn the_watcher_hears_what_is_entrusted_and_is_told_done_only_after_an_orderly_end() {
        let base = tempfile::tempdir().expect("a directory");
        let heard = base.path().join("heard");
        // Writes down what it is told, as a watcher that starts with the directory's name would.
        let watcher = base.path().join("watcher");
        std::fs::write(&watcher, format!("#!/bin/sh\ncat > {}\n", heard.display())).expect("writes");
        std::fs::set_permissions(&watcher, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let entrusted = || {
            let mut directory = RunDir::create_in(base.path(), Some(&watcher)).expect("makes");
            for bad in ["", "two\nlines", "done"] {
                directory.entrust(bad).expect_err("not a name");
            }
            directory.entrust("containers").expect("the watcher is there");
            directory
        };
        let heard = || std::fs::read_to_string(&heard).expect("the watcher has ended");
        entrusted().close();
        assert_eq!(heard(), "containers\ndone\n");
        let _ = entrusted().keep();
        assert_eq!(heard(), "containers\ndone\n");
        drop(entrusted());
        assert_eq!(heard(), "containers\n", "after a panic the watcher does the rest");
        drop(RunDir::create_in(base.path(), Some(&watcher)).expect("makes"));
        assert_eq!(heard(), "done\n", "nothing but the directory was there");
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
        watch_pipe(&directory, io::empty(), |_| {});
        assert!(!directory.exists());
        assert!(waiter.join().expect("no panic").success(), "the process ended by itself");
    }
}
