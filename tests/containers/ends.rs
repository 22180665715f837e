//! The ends of a run that has servers in containers: orderly, by a panic, by signals, and by `kill -9` of all who could clean up.

use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use os::owner::started;

use super::outside::{IMAGES, Outside};
use crate::support::middle::{ENDLESS, Middle, command_line};
use crate::support::{PATIENCE, Running, harness, ran, until};

/// Arguments that make servers run in containers, from images that need no registry.
pub(crate) const CONTAINERS: [&str; 4] = ["--environment", "container", "--image-set", "offline"];

/// The major version that there is an image for.
const MAJOR: u16 = 17;

/// A run in the middle of its cases, with servers in containers.
pub(super) struct Contained {
    pub(super) middle: Middle,
    pub(super) outside: Outside,
    pub(super) run: String,
    /// What ran in its containers: number and start.
    processes: Vec<(i32, String)>,
}

impl Contained {
    /// `None` where there is no engine or an image is missing.
    pub(super) fn reach(repeat: &str, more: &[&str]) -> Option<Self> {
        let outside = Outside::here(&IMAGES)?;
        let middle = Middle::reach(MAJOR, repeat, &[&CONTAINERS, more].concat());
        let name = middle.run_directory.file_name().and_then(|name| name.to_str()).expect("a name");
        let run = name.strip_prefix("mtls-conformance-").expect("the directory is named after the run").to_owned();
        let owned = outside.owned(&run);
        for kind in ["container", "network", "volume"] {
            assert!(owned.iter().any(|owned| owned.starts_with(kind)), "a {kind} is there: {owned:?}");
        }
        let processes = outside.processes(&run);
        assert!(processes.iter().any(|pid| command_line(*pid).contains("postgres")), "a server runs in a container: {processes:?}");
        let processes = processes.into_iter().filter_map(|pid| Some((pid, started(&pid.to_string())?))).collect();
        Some(Self { middle, outside, run, processes })
    }

    /// Waits until neither the engine nor this machine has anything of it.
    pub(super) fn assert_nothing_is_left(&self) {
        self.middle.assert_nothing_is_left_besides(|| {
            let mut left = self.outside.owned(&self.run);
            let alive = self.processes.iter().filter(|(pid, start)| started(&pid.to_string()).as_ref() == Some(start));
            left.extend(alive.map(|(pid, _)| format!("{pid} {} of a container", command_line(*pid))));
            left
        });
    }
}

#[test]
fn nothing_is_left_in_containers_after_an_ordinary_end() {
    let Some(mut run) = Contained::reach("5", &[]) else { return };
    assert_eq!(run.middle.harness.wait().code(), Some(0), "{}", run.middle.harness.said());
    run.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_in_containers_after_a_panic() {
    let Some(mut run) = Contained::reach(ENDLESS, &["--panic-after", "400"]) else { return };
    assert_eq!(run.middle.harness.wait().code(), Some(101), "{}", run.middle.harness.said());
    run.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_in_containers_after_ctrl_c() {
    interrupted_by(Signal::SIGINT);
}

#[test]
fn nothing_is_left_in_containers_after_sigterm() {
    interrupted_by(Signal::SIGTERM);
}

fn interrupted_by(signal: Signal) {
    let Some(mut run) = Contained::reach(ENDLESS, &[]) else { return };
    run.middle.signal(signal);
    assert_eq!(run.middle.harness.wait().code(), Some(5), "{}", run.middle.harness.said());
    run.assert_nothing_is_left();
}

#[test]
fn ctrl_c_ends_a_run_that_waits_for_an_image() {
    let Some(_outside) = Outside::here(&[]) else { return };
    // A registry that takes connections and never answers.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port");
    registry.set_nonblocking(true).expect("can be told");
    let image = format!("postgres-17={}/never:1", registry.local_addr().expect("an address"));
    let directory = tempfile::tempdir().expect("a directory");
    let args = [&["run", "postgres/unset", "--postgres", "17", "--driver", "rustls", "--image", &image], &CONTAINERS[..]].concat();
    let mut run = Running::start(harness(directory.path(), &args));
    let _asked =
        until("the engine to ask the registry", PATIENCE, || registry.accept().map_err(|error| format!("{error}: {}", run.said())));
    kill(Pid::from_raw(run.pid()), Signal::SIGINT).expect("the harness is there");
    let begun = Instant::now();
    assert_eq!(run.wait().code(), Some(5), "{}", run.said());
    assert!(begun.elapsed() < Duration::from_secs(5), "the engine waits longer for a registry: {:?}", begun.elapsed());
    assert!(run.said().contains("interrupted while images were looked for or pulled"), "{}", run.said());
}

#[test]
fn nothing_is_left_in_containers_after_a_second_ctrl_c() {
    let Some(mut run) = Contained::reach(ENDLESS, &[]) else { return };
    run.middle.signal(Signal::SIGINT);
    run.middle.harness.wait_for_texts(&["once more to leave at once"]);
    // It may have ended meanwhile.
    let _ = kill(Pid::from_raw(run.middle.harness.pid()), Signal::SIGINT);
    assert_eq!(run.middle.harness.wait().code(), Some(5), "{}", run.middle.harness.said());
    run.assert_nothing_is_left();
}

#[test]
fn nothing_is_left_in_containers_after_sigkill() {
    let Some(mut run) = Contained::reach(ENDLESS, &[]) else { return };
    run.middle.signal(Signal::SIGKILL);
    assert_eq!(run.middle.harness.wait().signal(), Some(9));
    run.assert_nothing_is_left();
}

#[test]
fn the_next_run_removes_what_a_killed_harness_and_its_killed_watcher_left() {
    let Some(mut run) = Contained::reach(ENDLESS, &[]) else { return };
    kill(Pid::from_raw(run.middle.watcher), Signal::SIGKILL).expect("the watcher is there");
    run.middle.signal(Signal::SIGKILL);
    // Before the harness is waited for, its number is still taken: the run counts as alive for others that sweep.
    let left = run.outside.owned(&run.run);
    assert!(left.iter().any(|left| left.starts_with("container")) && run.middle.run_directory.exists(), "it left {left:?}");
    assert_eq!(run.middle.harness.wait().signal(), Some(9));
    let directory = tempfile::tempdir().expect("a directory");
    let args = [&["run", "redis/sources", "--driver", "redis-rs", "--report", "json=report.json"], &CONTAINERS[..]].concat();
    let next = ran(directory.path(), harness(directory.path(), &args));
    assert_eq!((next.code, &next.report.left_behind[..]), (0, &[][..]), "{}", next.said);
    run.assert_nothing_is_left();
}
