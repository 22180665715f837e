//! The one child-process type: keeps argv and log path for reports, dies with the harness.
//!
//! Every child gets `PR_SET_PDEATHSIG`, so that the kernel ends it when the harness is killed with SIGKILL. That signal is sent
//! when the *thread* that spawned the child ends (prctl(2)), so all spawns happen on one thread that lives as long as the process:
//! tokio ends idle blocking threads, and a worker's runtime may end before the process does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use tokio::process::{ChildStdin, ChildStdout};

use super::user::RunAs;

/// A child process could not be started or did not behave.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program could not be started.
    #[error("could not start `{program}`: {source}; is it installed, and may {user} execute it?")]
    Spawn {
        /// The path that was to be executed.
        program: String,
        /// Who was to run it.
        user: String,
        /// What fork(2), setuid(2) or execve(2) said.
        source: std::io::Error,
    },
    /// Its log file could not be made.
    #[error("could not make the log file {path}: {source}", path = path.display())]
    Log {
        /// Where [`ChildSpec::log`] says that it goes.
        path: PathBuf,
        /// What open(2) said.
        source: std::io::Error,
    },
}

/// What becomes of a child's standard input and output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipes {
    /// Input from `/dev/null`; output and errors to the log.
    Log,
    /// Input and output are pipes for us; errors to the log.
    Lines,
}

/// How to start a child.
#[derive(Debug, Clone)]
pub struct ChildSpec {
    /// A path; a name without a slash is looked for on `PATH`.
    pub program: PathBuf,
    /// Without the program's own name.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing is inherited but `PATH`, `LANG=C` is set.
    pub env: BTreeMap<String, OsString>,
    /// Who runs it; `None`: ourselves.
    pub user: Option<RunAs>,
    /// Its working directory; `None`: ours. [`crate::tree::processes_in`] finds children by it.
    pub directory: Option<PathBuf>,
    /// Where its standard error (and output) goes.
    pub log: PathBuf,
    /// Standard input and output.
    pub pipes: Pipes,
    /// The signal that stops it in an orderly way, and that the kernel sends when the harness dies.
    pub stop_signal: Signal,
}

impl ChildSpec {
    /// A child with no arguments whose output goes to `log`.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            directory: None,
            log: log.into(),
            pipes: Pipes::Log,
            stop_signal: Signal::SIGTERM,
        }
    }

    /// Puts an argument after those that are there.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// The command line, for reports.
    #[must_use]
    pub fn command_line(&self) -> String {
        let mut words = vec![self.program.display().to_string()];
        words.extend(self.args.iter().map(|arg| arg.to_string_lossy().into_owned()));
        words.join(" ")
    }

    /// Starts it.
    ///
    /// # Errors
    /// [`ChildError`] if the program or its log can't be opened.
    pub async fn spawn(self) -> Result<Child, ChildError> {
        let log_error = |source| ChildError::Log { path: self.log.clone(), source };
        let mut log = File::options().create(true).append(true).mode(0o600).open(&self.log).map_err(log_error)?;
        // HAProxy makes its output non-blocking in a way that drops O_APPEND: then the position counts.
        match log.seek(SeekFrom::End(0)) {
            // A pipe has no position.
            Err(error) if error.raw_os_error() != Some(nix::libc::ESPIPE) => return Err(log_error(error)),
            _ => {}
        }
        let mut command = std::process::Command::new(&self.program);
        command.args(&self.args).env_clear().env("LANG", "C").env("LC_ALL", "C");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.envs(&self.env);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        match self.pipes {
            Pipes::Log => command.stdin(Stdio::null()).stdout(log.try_clone().map_err(log_error)?),
            Pipes::Lines => command.stdin(Stdio::piped()).stdout(Stdio::piped()),
        };
        command.stderr(log);
        if let Some(user) = &self.user {
            user.runs(&mut command);
        }
        die_with_parent(&mut command, self.stop_signal);
        let program = self.program.display().to_string();
        let user = self.user.as_ref().map_or_else(|| "the current user".to_owned(), |user| user.name.clone());
        spawn_on_lasting_thread(self, command).await.map_err(|source| ChildError::Spawn { program, user, source })
    }
}

#[expect(unsafe_code, reason = "prctl and setpgid are async-signal-safe, which is all that pre_exec asks for")]
fn die_with_parent(command: &mut std::process::Command, signal: Signal) {
    use std::os::unix::process::CommandExt as _;
    command.process_group(0);
    let parent = nix::unistd::getpid();
    // SAFETY: the closure only makes system calls.
    unsafe {
        // Runs after setuid, which would clear the setting.
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(signal).map_err(std::io::Error::from)?;
            if nix::unistd::getppid() != parent {
                return Err(std::io::Error::other("the harness ended meanwhile"));
            }
            Ok(())
        });
    }
}

struct SpawnJob {
    spec: ChildSpec,
    command: std::process::Command,
    runtime: tokio::runtime::Handle,
    answer: tokio::sync::oneshot::Sender<std::io::Result<Child>>,
}

async fn spawn_on_lasting_thread(spec: ChildSpec, command: std::process::Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<SpawnJob>> = OnceLock::new();
    let ended = || std::io::Error::other("the thread that starts children has ended");
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<SpawnJob>();
        std::thread::spawn(move || {
            for SpawnJob { spec, command, runtime, answer } in jobs {
                let _guard = runtime.enter();
                let mut command = tokio::process::Command::from(command);
                let spawned = command.kill_on_drop(true).spawn().map(|child| Child { spec, child });
                // The receiver may be gone when its case timed out; then the child is dropped here, which stops it.
                let _ = answer.send(spawned);
            }
        });
        sender
    });
    let (answer, result) = tokio::sync::oneshot::channel();
    let job = SpawnJob { spec, command, runtime: tokio::runtime::Handle::current(), answer };
    spawner.send(job).map_err(|_| ended())?;
    result.await.map_err(|_| ended())?
}

/// How long a dropped child gets for an orderly end before it is killed.
///
/// PostgreSQL's immediate shutdown takes single milliseconds; killed outright it would leave its System V shared memory behind.
const DROP_GRACE: Duration = Duration::from_secs(2);

/// A running child. Dropping it sends its stop signal, waits for at most two seconds, and kills what is left.
#[derive(Debug)]
pub struct Child {
    spec: ChildSpec,
    child: tokio::process::Child,
}

impl Child {
    /// How it was started.
    #[must_use]
    pub fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    /// The file that gets its standard error, and its output unless that is a pipe: see [`tail`].
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// Its process id; `None` once it was waited for.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Takes its standard input and output, once, where [`Pipes::Lines`] was asked for.
    pub fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        Some((self.child.stdin.take()?, self.child.stdout.take()?))
    }

    /// Whether and how it has ended.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Those of the system call.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends a signal; does nothing once it has ended.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended a moment ago: then there is nothing to do.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Stops it with its own signal, and its whole process group with SIGKILL if it is still there after `limit`.
    /// How it ended; `None` if the system would not tell.
    pub async fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal_stop();
        if let Ok(Ok(status)) = tokio::time::timeout(limit, self.child.wait()).await {
            return Some(status);
        }
        self.kill_group();
        self.child.wait().await.ok()
    }

    /// Its own stop signal. One that SIGSTOP holds gets it only when it goes on.
    fn signal_stop(&self) {
        self.signal(self.spec.stop_signal);
        self.signal(Signal::SIGCONT);
    }

    /// SIGKILL to the child's process group. The group's id is the child's pid, which can't be reused before the child is waited for.
    pub fn kill_group(&self) {
        if let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.try_wait().is_some() {
            return;
        }
        let Some(pid) = self.pid().and_then(|pid| i32::try_from(pid).ok()) else { return };
        self.signal_stop();
        // WNOWAIT leaves the zombie to `try_wait`: the pid stays taken, so nothing below can hit a stranger.
        let (ended, wait) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            let _ = waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
            drop(ended);
        });
        if wait.recv_timeout(DROP_GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
            self.kill_group();
            let _ = wait.recv();
        }
        self.try_wait();
    }
}

/// How much of a log's end [`tail`] reads.
const TAIL_BYTES: u64 = 64 * 1024;

/// The last lines of a log, for error messages. Only the log's last 64 KiB are looked at.
#[must_use]
pub fn tail(log: &Path, lines: usize) -> String {
    tail_since(log, 0, lines)
}

/// The last lines of what was written to a log after its first `length` bytes.
#[must_use]
pub fn tail_since(log: &Path, length: u64, lines: usize) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(end.saturating_sub(TAIL_BYTES).max(length)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let Ok(bytes) = read() else {
        return format!("(no log at {})", log.display());
    };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(directory: &Path, script: &str) -> ChildSpec {
        ChildSpec::new("/bin/sh", directory.join("child.log")).arg("-c").arg(script)
    }

    fn exists(pid: u32) -> bool {
        Path::new("/proc").join(pid.to_string()).exists()
    }

    /// The file a child makes when it has come to a certain place.
    async fn wait_for_file(path: &Path) -> String {
        crate::poll::until("the child's mark", Duration::from_secs(10), Duration::from_millis(2), || async {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => Ok(text.trim().to_owned()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .expect("the child comes to its mark")
    }

    #[tokio::test]
    async fn a_missing_program_is_named_with_the_user_that_was_to_run_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let missing = directory.path().join("nothing-here");
        let error = ChildSpec::new(&missing, directory.path().join("log")).spawn().await.expect_err("it can't start");
        let text = error.to_string();
        assert!(text.contains("nothing-here") && text.contains("the current user"), "{text}");
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_made_is_its_own_error() {
        let error = ChildSpec::new("/bin/true", "/nonexistent/log").spawn().await.expect_err("no log, no start");
        assert!(matches!(error, ChildError::Log { .. }), "{error}");
    }

    #[tokio::test]
    async fn output_goes_to_the_log_and_the_environment_is_our_own() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut child =
            spec(directory.path(), "echo out $GREETING $HOME; echo err $LANG >&2").env("GREETING", "hello").spawn().await.expect("starts");
        assert!(child.wait().await.expect("ends").success());
        assert_eq!(tail(child.log(), 5), "out hello\nerr C");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(child.log()).expect("there").permissions());
        assert_eq!(mode & 0o777, 0o600, "it is for nobody else");
    }

    #[tokio::test]
    async fn a_child_that_ignores_its_stop_signal_is_killed_with_its_group() {
        let directory = tempfile::tempdir().expect("a directory");
        let mark = directory.path().join("mark");
        let script = format!("trap '' TERM; sleep 1000 & echo $! > {mark}; wait; wait", mark = mark.display());
        let mut child = spec(directory.path(), &script).spawn().await.expect("starts");
        let grandchild: u32 = wait_for_file(&mark).await.parse().expect("a pid");
        let status = child.stop(Duration::from_millis(50)).await.expect("an end");
        assert!(!status.success());
        crate::poll::until("the grandchild's end", Duration::from_secs(5), Duration::from_millis(2), || async move {
            // A zombie that init has not collected yet has no command line any more.
            let gone = !exists(grandchild) || std::fs::read(format!("/proc/{grandchild}/cmdline")).is_ok_and(|line| line.is_empty());
            if gone { Ok(()) } else { Err("alive".to_owned()) }
        })
        .await
        .expect("the group is killed");
    }

    #[tokio::test]
    async fn dropping_a_child_lets_it_end_in_order_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let (mark, farewell) = (directory.path().join("mark"), directory.path().join("farewell"));
        let script = format!(
            "trap 'echo bye > {farewell}; exit 0' TERM; echo ready > {mark}; while :; do sleep 0.01; done",
            mark = mark.display(),
            farewell = farewell.display()
        );
        let child = spec(directory.path(), &script).spawn().await.expect("starts");
        wait_for_file(&mark).await;
        let pid = child.pid().expect("a pid");
        drop(child);
        assert!(!exists(pid), "it was waited for");
        assert_eq!(std::fs::read_to_string(&farewell).expect("its trap ran"), "bye\n");
    }

    #[test]
    fn a_child_outlives_the_runtime_thread_that_asked_for_it() {
        // The parent-death signal comes with the end of the thread that forked: had a runtime's worker forked, the child would be gone.
        let directory = tempfile::tempdir().expect("a directory");
        let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let first = runtime();
        let script = spec(directory.path(), "exec sleep 1000");
        let child = first.block_on(async move { tokio::spawn(script.spawn()).await.expect("no panic").expect("starts") });
        first.shutdown_timeout(Duration::from_secs(1));
        let pid = i32::try_from(child.pid().expect("a pid")).expect("fits");
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it is there");
        assert!(!state.contains(") Z "), "{state}");
        drop(child);
        assert!(!exists(u32::try_from(pid).expect("fits")));
    }

    #[test]
    fn the_end_of_a_long_log_is_read_without_the_rest() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        let text: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).expect("writes");
        assert_eq!(tail(&log, 2), "line 19998\nline 19999");
        assert_eq!(tail_since(&log, std::fs::metadata(&log).expect("there").len() - 11, 2), "line 19999");
        assert!(tail(Path::new("/nonexistent/log"), 2).contains("no log at"));
    }
}
