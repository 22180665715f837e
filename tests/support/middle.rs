//! A run in the middle of its cases, and what is left of it afterwards.

use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use os::rundir::WATCH_COMMAND;
use os::tree::processes_in;

use super::{PATIENCE, Running, harness, until};

/// A run with a PostgreSQL, client processes, and Redis where it is there, in the middle of its cases.
pub(crate) struct Middle {
    pub(crate) harness: Running,
    pub(crate) run_directory: PathBuf,
    pub(crate) watcher: i32,
    /// What works in its directory: clients, and the servers that run on this machine.
    pub(crate) children: Vec<i32>,
    /// Holds what the run writes.
    pub(crate) directory: tempfile::TempDir,
}

/// Enough rounds that no test sees their end, unless it wants to.
pub(crate) const ENDLESS: &str = "500";

impl Middle {
    /// With servers of this version. `more` are further arguments.
    pub(crate) fn reach(major: u16, repeat: &str, more: &[&str]) -> Self {
        let version = major.to_string();
        let directory = tempfile::tempdir().expect("a directory");
        let mut args =
            vec!["run", "postgres/unset", "redis/sources", "gateway/redis", "--postgres", &version, "--driver", "rustls,libpq-*,redis-*"];
        args.extend(["--repeat", repeat]);
        args.extend(more);
        let mut harness = Running::start(harness(directory.path(), &args));
        let (watcher, run_directory) = until("the watcher", PATIENCE, || watcher_of(harness.pid()).ok_or_else(|| harness.said()));
        harness.wait_for_texts(&[&format!("postgres-{major}-documented, "), &format!("postgres-{major}-cnpg, ")]);
        let children = processes_in(&run_directory);
        Self { harness, run_directory, watcher, children, directory }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.harness.pid()), signal).expect("the harness is there");
    }

    /// Waits until nothing is left; the limit is the watcher's patience and a busy machine's share.
    pub(crate) fn assert_nothing_is_left(&self) {
        self.assert_nothing_is_left_besides(Vec::new);
    }

    /// The same, for what `more` names as left elsewhere, too.
    pub(crate) fn assert_nothing_is_left_besides(&self, more: impl Fn() -> Vec<String>) {
        until("the end of everything", PATIENCE, || {
            let mut left: Vec<String> = processes_in(&self.run_directory).into_iter().map(|pid| format!("{pid} works there")).collect();
            left.extend(processes_that_name(&self.run_directory).into_iter().map(|pid| format!("{pid} {}", command_line(pid))));
            left.extend(self.children.iter().filter(|pid| owns_shared_memory(**pid)).map(|pid| format!("shared memory of {pid}")));
            if self.run_directory.exists() {
                left.push(self.run_directory.display().to_string());
            }
            left.extend(more());
            if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
        });
        assert!(!command_line(self.watcher).contains(WATCH_COMMAND), "the watcher has ended");
    }
}

/// The watcher that a harness has started, and the directory that it watches.
fn watcher_of(harness: i32) -> Option<(i32, PathBuf)> {
    processes().into_iter().find_map(|pid| {
        let words = words(pid);
        let at = words.iter().position(|word| word == WATCH_COMMAND)?;
        (parent(pid)? == harness).then(|| words.get(at + 1).map(|directory| (pid, PathBuf::from(directory))))?
    })
}

fn processes() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").expect("/proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Empty for a process that is gone, and for a zombie.
fn words(pid: i32) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

pub(crate) fn command_line(pid: i32) -> String {
    words(pid).join(" ")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: state, parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

pub(crate) fn processes_that_name(directory: &Path) -> Vec<i32> {
    let directory = directory.display().to_string();
    processes().into_iter().filter(|pid| command_line(*pid).contains(&directory)).collect()
}

/// Whether a System V segment is there that this process made (column `cpid`).
fn owns_shared_memory(pid: i32) -> bool {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)?.parse::<i32>().ok()).any(|creator| creator == pid)
}
