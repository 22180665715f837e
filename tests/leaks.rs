//! Whatever ends a run, nothing of it is left: no server, client or watcher, no shared memory, no run directory.

use std::os::unix::process::ExitStatusExt as _;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::middle::{ENDLESS, Middle, command_line};
use crate::support::{harness, newest_postgres};

/// `None` where no PostgreSQL is installed.
fn reach(repeat: &str, more: &[&str]) -> Option<Middle> {
    let middle = Middle::reach(newest_postgres()?.major, repeat, more);
    let children = &middle.children;
    assert!(children.iter().any(|pid| command_line(*pid).contains("postgres")), "a server runs: {children:?}");
    Some(middle)
}

#[test]
fn nothing_is_left_after_an_ordinary_end() {
    let Some(mut middle) = reach("10", &[]) else { return };
    assert_eq!(middle.harness.wait().code(), Some(0), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_a_panic() {
    let Some(mut middle) = reach(ENDLESS, &["--panic-after", "400"]) else { return };
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

#[test]
fn nothing_is_left_after_a_hangup() {
    interrupted_by(Signal::SIGHUP);
}

fn interrupted_by(signal: Signal) {
    let Some(mut middle) = reach(ENDLESS, &[]) else { return };
    middle.signal(signal);
    assert_eq!(middle.harness.wait().code(), Some(5), "{}", middle.harness.said());
    assert!(middle.harness.said().contains("interrupted: "), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_a_second_ctrl_c() {
    let Some(mut middle) = reach(ENDLESS, &[]) else { return };
    middle.signal(Signal::SIGINT);
    middle.harness.wait_for_texts(&["once more to leave at once"]);
    // It may have ended meanwhile.
    let _ = kill(Pid::from_raw(middle.harness.pid()), Signal::SIGINT);
    assert_eq!(middle.harness.wait().code(), Some(5), "{}", middle.harness.said());
    middle.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_after_sigkill() {
    let Some(mut middle) = reach(ENDLESS, &[]) else { return };
    middle.signal(Signal::SIGKILL);
    assert_eq!(middle.harness.wait().signal(), Some(9));
    middle.assert_nothing_is_left();
}

#[test]
fn the_next_run_removes_what_a_killed_harness_and_its_killed_watcher_left_here() {
    let Some(mut middle) = reach(ENDLESS, &[]) else { return };
    kill(Pid::from_raw(middle.watcher), Signal::SIGKILL).expect("the watcher is there");
    middle.signal(Signal::SIGKILL);
    // Before the harness is waited for, its number is still taken: the run counts as alive for others that clean up.
    assert!(middle.run_directory.exists(), "nobody has removed it");
    assert_eq!(middle.harness.wait().signal(), Some(9));
    let directory = tempfile::tempdir().expect("a directory");
    let next = harness(directory.path(), &["run", "postgres/ipv6", "--driver", "rustls"]).output().expect("runs");
    assert_eq!(next.status.code(), Some(0), "{}", String::from_utf8_lossy(&next.stderr));
    middle.assert_nothing_is_left();
}
