//! A program whose processes are all stopped, so that none of them answers, and none of them sees that another does not.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::poll::{self, PollTimeout};
use super::tree;

/// How often it is looked whether all have stopped: a signal takes microseconds to arrive.
const INTERVAL: Duration = Duration::from_millis(1);

/// The processes that work in a directory, stopped by SIGSTOP. Dropping this lets them go on.
#[derive(Debug)]
pub struct Frozen {
    directory: PathBuf,
    spared: fn(&str) -> bool,
}

impl Frozen {
    /// Stops `first`, which starts the others, and then whatever works in `directory`; left alone are those whose command line is `spared`.
    /// Returns when all have stopped.
    ///
    /// # Errors
    /// [`PollTimeout`] if one goes on after `limit`; then all do.
    pub async fn freeze(directory: &Path, first: u32, spared: fn(&str) -> bool, limit: Duration) -> Result<Self, PollTimeout> {
        let frozen = Self { directory: directory.to_path_buf(), spared };
        let first = i32::try_from(first).unwrap_or_default();
        send(first, Signal::SIGSTOP);
        poll::until(&format!("process {first} to stop"), limit, INTERVAL, || std::future::ready(stopped(first))).await?;
        // Twice: one that was not listed yet may have been started in between.
        let all = || frozen.stop_the_rest().and_then(|()| frozen.stop_the_rest());
        poll::until("every process to stop", limit, INTERVAL, || std::future::ready(all())).await?;
        Ok(frozen)
    }

    /// Kills all of them at once: none can write or send anything more.
    pub fn kill(self) {
        for pid in self.processes() {
            send(pid, Signal::SIGKILL);
        }
    }

    fn processes(&self) -> Vec<i32> {
        let mut processes = tree::processes_in(&self.directory);
        processes.retain(|pid| !(self.spared)(&command_line(*pid)));
        processes
    }

    /// Sends SIGSTOP to those that have not stopped yet.
    fn stop_the_rest(&self) -> Result<(), NotStopped> {
        let going: Vec<ProcessState> = self
            .processes()
            .into_iter()
            .filter_map(|pid| {
                let NotStopped(states) = stopped(pid).err()?;
                send(pid, Signal::SIGSTOP);
                Some(states)
            })
            .flatten()
            .collect();
        if going.is_empty() { Ok(()) } else { Err(NotStopped(going)) }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Found anew: an id may have gone to a stranger meanwhile.
        for pid in self.processes() {
            send(pid, Signal::SIGCONT);
        }
    }
}

fn send(pid: i32, signal: Signal) {
    // To zero it would go to our own group. A process that is gone needs no signal.
    if pid > 0 {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// A process and its state, a letter of proc(5).
#[derive(Debug)]
struct ProcessState {
    pid: i32,
    state: char,
}

/// Processes that go on, at least one: `1234 is R, 1235 is S`.
#[derive(Debug)]
struct NotStopped(Vec<ProcessState>);

impl fmt::Display for NotStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, ProcessState { pid, state }) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{pid} is {state}")?;
        }
        Ok(())
    }
}

/// Whether a process has stopped, or is gone, which is as good.
fn stopped(pid: i32) -> Result<(), NotStopped> {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return Ok(()) };
    // proc(5): the state stands after the name, which is in parentheses and may hold others.
    match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
        Some('T' | 't' | 'Z' | 'X') | None => Ok(()),
        Some(state) => Err(NotStopped(vec![ProcessState { pid, state }])),
    }
}

/// Its arguments, or the title that it gave itself.
fn command_line(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::{Child, Command, ExitStatus};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// A child that is killed when its test gives up.
    struct Guarded(Child);

    impl Guarded {
        fn wait(&mut self) -> ExitStatus {
            self.0.wait().expect("waits")
        }
    }

    impl Drop for Guarded {
        fn drop(&mut self) {
            // Nothing to do where it has ended.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn state(pid: u32) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        stat.rsplit_once(") ").expect("a name").1.chars().next().expect("a state")
    }

    /// A shell with two children that write to a file each, as fast as they can, all working in `directory`.
    fn family(directory: &Path) -> Guarded {
        // They end with the directory, whatever becomes of the test.
        std::fs::write(directory.join("go"), "").expect("writes");
        let script = "while [ -e go ]; do echo x >> one; done & while [ -e go ]; do echo x >> two; done & exec sleep 1000";
        let child = Command::new("/bin/sh").arg("-c").arg(script).current_dir(directory).spawn().expect("starts");
        let both = || ["one", "two"].iter().all(|file| directory.join(file).exists());
        while !both() {
            std::thread::yield_now();
        }
        Guarded(child)
    }

    fn sizes(directory: &Path) -> Vec<u64> {
        ["one", "two"].map(|file| std::fs::metadata(directory.join(file)).expect("there").len()).to_vec()
    }

    #[tokio::test]
    async fn all_processes_stop_and_go_on_when_it_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut first = family(directory.path());
        let frozen = Frozen::freeze(directory.path(), first.0.id(), |_| false, LIMIT).await.expect("all stop");
        assert_eq!(tree::processes_in(directory.path()).len(), 3);
        let before = sizes(directory.path());
        for pid in tree::processes_in(directory.path()) {
            assert_eq!(state(pid.try_into().expect("a pid")), 'T');
        }
        assert_eq!(sizes(directory.path()), before);
        drop(frozen);
        poll::until("both to write on", LIMIT, INTERVAL, || {
            let now = sizes(directory.path());
            std::future::ready(if now[0] > before[0] && now[1] > before[1] { Ok(()) } else { Err(format!("{now:?}")) })
        })
        .await
        .expect("they go on");
        Frozen::freeze(directory.path(), first.0.id(), |_| false, LIMIT).await.expect("all stop").kill();
        assert_eq!(first.wait().signal(), Some(9));
        poll::until("the end of all", LIMIT, INTERVAL, || {
            let left = tree::processes_in(directory.path());
            std::future::ready(if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) })
        })
        .await
        .expect("killed");
    }

    #[tokio::test]
    async fn one_that_is_spared_goes_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let start = |name: &str| Guarded(Command::new("sleep").arg(name).current_dir(directory.path()).spawn().expect("starts"));
        let (mut first, spared) = (start("1000"), start("1234"));
        let frozen = Frozen::freeze(directory.path(), first.0.id(), |command| command.ends_with("1234"), LIMIT).await.expect("it stops");
        assert_eq!(state(first.0.id()), 'T');
        assert_ne!(state(spared.0.id()), 'T');
        frozen.kill();
        assert_eq!(first.wait().signal(), Some(9));
        assert!(!matches!(state(spared.0.id()), 'T' | 'Z'), "it goes on");
    }
}
