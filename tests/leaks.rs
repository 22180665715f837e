//! Whatever ends a run, nothing of it is left: no server, client or watcher, no shared memory, no run directory.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use mtls_conformance::os::rundir::WATCH_COMMAND;
use mtls_conformance::os::tree::processes_in;

use crate::support::{PATIENCE, Running, harness, newest_postgres, until};

/// A run with a PostgreSQL, client processes, and Redis where it is there, in the middle of its cases.
struct Middle {
    harness: Running,
    run_directory: PathBuf,
    watcher: i32,
    /// Servers and clients.
    children: Vec<i32>,
    /// Holds what the run writes.
    _directory: tempfile::TempDir,
}

/// Enough rounds that no test sees their end, unless it wants to.
const ENDLESS: &str = "500";

impl Middle {
    /// `None` where no PostgreSQL is installed.
    fn reach(repeat: &str, more: &[&str]) -> Option<Self> {
        let major = newest_postgres()?.major;
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
        assert!(children.iter().any(|pid| command_line(*pid).contains("postgres")), "a server runs: {children:?}");
        Some(Self { harness, run_directory, watcher, children, _directory: directory })
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.harness.pid()), signal).expect("the harness is there");
    }

    /// Waits until nothing is left; the limit is the watcher's patience and a busy machine's share.
    fn assert_nothing_is_left(&self) {
        until("the end of everything", PATIENCE, || {
            let mut left: Vec<String> = processes_in(&self.run_directory).into_iter().map(|pid| format!("{pid} works there")).collect();
            left.extend(processes_that_name(&self.run_directory).into_iter().map(|pid| format!("{pid} {}", command_line(pid))));
            left.extend(self.children.iter().filter(|pid| owns_shared_memory(**pid)).map(|pid| format!("shared memory of {pid}")));
            if self.run_directory.exists() {
                left.push(self.run_directory.display().to_string());
            }
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

fn command_line(pid: i32) -> String {
    words(pid).join(" ")
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything: state, parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

fn processes_that_name(directory: &Path) -> Vec<i32> {
    let directory = directory.display().to_string();
    processes().into_iter().filter(|pid| command_line(*pid).contains(&directory)).collect()
}

/// Whether a System V segment is there that this process made (column `cpid`).
fn owns_shared_memory(pid: i32) -> bool {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)?.parse::<i32>().ok()).any(|creator| creator == pid)
}

#[test]
fn nothing_is_left_after_an_ordinary_end() {
    let Some(mut middle) = Middle::reach("10", &[]) else { return };
    assert_eq!(middle.harness.wait().code(), Some(0), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_a_panic() {
    let Some(mut middle) = Middle::reach(ENDLESS, &["--panic-after", "40"]) else { return };
    assert_eq!(middle.harness.wait().code(), Some(101), "{}", middle.harness.said());
    assert!(middle.harness.said().contains("asked for by --panic-after"), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_ctrl_c() {
    interrupted_by(Signal::SIGINT);
}

#[test]
fn nothing_is_left_after_sigterm() {
    interrupted_by(Signal::SIGTERM);
}

fn interrupted_by(signal: Signal) {
    let Some(mut middle) = Middle::reach(ENDLESS, &[]) else { return };
    middle.signal(signal);
    assert_eq!(middle.harness.wait().code(), Some(5), "{}", middle.harness.said());
    assert!(middle.harness.said().contains("interrupted: "), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_a_second_ctrl_c() {
    let Some(mut middle) = Middle::reach(ENDLESS, &[]) else { return };
    middle.signal(Signal::SIGINT);
    middle.harness.wait_for_texts(&["once more to leave at once"]);
    // It may have ended meanwhile.
    let _ = kill(Pid::from_raw(middle.harness.pid()), Signal::SIGINT);
    assert_eq!(middle.harness.wait().code(), Some(5), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_sigkill() {
    let Some(mut middle) = Middle::reach(ENDLESS, &[]) else { return };
    middle.signal(Signal::SIGKILL);
    assert_eq!(middle.harness.wait().signal(), Some(9));
    middle.assert_nothing_is_left();
}
