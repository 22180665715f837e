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
        let all = || frozen.stop_the_rest(first).and_then(|()| frozen.stop_the_rest(first));
        let all_stopped = poll::until("every process to stop", limit, INTERVAL, || std::future::ready(all())).await;
        // It may be none of those that are found when this is dropped.
        all_stopped.inspect_err(|_| send(first, Signal::SIGCONT))?;
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

    /// Sends SIGSTOP to those that have not stopped yet. Where `first` is not found among them, the others would not be either.
    fn stop_the_rest(&self, first: i32) -> Result<(), NotStopped> {
        let processes = self.processes();
        if !processes.contains(&first) && state(first).is_some() {
            return Err(NotStopped::NotFound { pid: first, directory: self.directory.clone() });
        }
        let going = processes.into_iter().filter_map(|pid| {
            let state = goes_on(pid)?;
            send(pid, Signal::SIGSTOP);
            Some(state)
        });
        let going: Vec<ProcessState> = going.collect();
        if going.is_empty() { Ok(()) } else { Err(NotStopped::GoOn(going)) }
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

/// Why not all have stopped.
#[derive(Debug)]
enum NotStopped {
    /// At least one process goes on.
    GoOn(Vec<ProcessState>),
    /// The first process does not work in the directory, or this process may not look where it works.
    NotFound { pid: i32, directory: PathBuf },
}

impl fmt::Display for NotStopped {
    /// `1234 is R, 1235 is S`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let going = match self {
            Self::GoOn(going) => going,
            Self::NotFound { pid, directory } => {
                return write!(f, "process {pid} was not found among those that work in {}", directory.display());
            }
        };
        for (number, ProcessState { pid, state }) in going.iter().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{pid} is {state}")?;
        }
        Ok(())
    }
}

/// The state of a process, a letter of proc(5); `None` if it is gone, or waits to be reaped.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state stands after the name, which is in parentheses and may hold others.
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).filter(|state| !matches!(state, 'Z' | 'X'))
}

/// The state of a process that neither has stopped nor is gone, which is as good.
fn goes_on(pid: i32) -> Option<ProcessState> {
    state(pid).filter(|state| !matches!(state, 'T' | 't')).map(|state| ProcessState { pid, state })
}

/// Whether a process has stopped, or is gone.
fn stopped(pid: i32) -> Result<(), NotStopped> {
    goes_on(pid).map_or(Ok(()), |state| Err(NotStopped::GoOn(vec![state])))
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
        fn pid(&self) -> i32 {
            self.0.id().try_into().expect("a pid")
        }

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
            assert_eq!(state(pid), Some('T'));
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
        assert_eq!(state(first.pid()), Some('T'));
        assert_ne!(state(spared.pid()), Some('T'));
        frozen.kill();
        assert_eq!(first.wait().signal(), Some(9));
        assert!(state(spared.pid()).is_some_and(|state| state != 'T'), "it goes on");
    }

    #[tokio::test]
    async fn one_that_is_not_found_in_the_directory_is_an_error_and_goes_on() {
        let [directory, elsewhere] = [(), ()].map(|()| tempfile::tempdir().expect("a directory"));
        let first = Guarded(Command::new("sleep").arg("1000").current_dir(elsewhere.path()).spawn().expect("starts"));
        let limit = Duration::from_millis(50);
        let error = Frozen::freeze(directory.path(), first.0.id(), |_| false, limit).await.expect_err("its children would go on");
        assert!(error.to_string().contains("was not found among those that work in"), "{error}");
        poll::until("it to go on", LIMIT, INTERVAL, || {
            std::future::ready(if state(first.pid()) == Some('T') { Err("it is stopped") } else { Ok(()) })
        })
        .await
        .expect("nothing stays stopped");
    }
}
