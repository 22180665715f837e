//! The one child-process type: keeps argv and log path for reports, dies with the harness.
//!
//! Every child gets `PR_SET_PDEATHSIG`, so that the kernel ends it when the harness is killed with SIGKILL. That signal is sent
//! when the *thread* that spawned the child ends, so all spawns happen on one thread that lives as long as the process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{ChildStdin, ChildStdout};

use super::user::RunAs;

/// A child process could not be started or did not behave.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program could not be started.
    #[error("could not start `{program}`: {source}; is it installed, and may {user} execute it?")]
    Spawn {
        /// The program.
        program: String,
        /// Who was to run it.
        user: String,
        /// Why.
        source: std::io::Error,
    },
    /// Its log file could not be made.
    #[error("could not make the log file {path}: {source}", path = path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// Why.
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
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its whole environment: nothing is inherited but `PATH`, `LANG=C` is set.
    pub env: BTreeMap<String, OsString>,
    /// Who runs it; `None`: ourselves.
    pub user: Option<RunAs>,
    /// Its working directory.
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

    /// Adds an argument.
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
        let log = File::options().create(true).append(true).open(&self.log).map_err(log_error)?;
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
            use std::os::unix::process::CommandExt as _;
            command.uid(user.uid).gid(user.gid);
        }
        die_with_parent(&mut command, self.stop_signal);
        let spawned = spawn_on_lasting_thread(command).await;
        match spawned {
            Ok(child) => Ok(Child { spec: self, child }),
            Err(source) => Err(ChildError::Spawn {
                program: self.program.display().to_string(),
                user: self.user.map_or_else(|| "the current user".to_owned(), |user| user.name),
                source,
            }),
        }
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

type SpawnJob = (std::process::Command, tokio::runtime::Handle, tokio::sync::oneshot::Sender<std::io::Result<tokio::process::Child>>);

async fn spawn_on_lasting_thread(command: std::process::Command) -> std::io::Result<tokio::process::Child> {
    static SPAWNER: OnceLock<mpsc::Sender<SpawnJob>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<SpawnJob>();
        std::thread::spawn(move || {
            for (command, runtime, answer) in jobs {
                let _guard = runtime.enter();
                let mut command = tokio::process::Command::from(command);
                // The receiver may be gone when its case timed out; then the child is dropped and killed.
                let _ = answer.send(command.kill_on_drop(true).spawn());
            }
        });
        sender
    });
    let (answer, result) = tokio::sync::oneshot::channel();
    spawner
        .send((command, tokio::runtime::Handle::current(), answer))
        .map_err(|_| std::io::Error::other("the thread that starts children has ended"))?;
    result.await.map_err(|_| std::io::Error::other("the thread that starts children has ended"))?
}

/// A running child. Dropping it kills it.
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

    /// Its log.
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

    /// Stops it with its own signal, and with SIGKILL if it is still there after `limit`.
    pub async fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(self.spec.stop_signal);
        if let Ok(Ok(status)) = tokio::time::timeout(limit, self.child.wait()).await {
            return Some(status);
        }
        self.signal(Signal::SIGKILL);
        self.child.wait().await.ok()
    }
}

/// The last lines of a log, for error messages.
#[must_use]
pub fn tail(log: &Path, lines: usize) -> String {
    let Ok(bytes) = std::fs::read(log) else {
        return format!("(no log at {})", log.display());
    };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
