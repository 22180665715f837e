//! Commands that run to their end, for what they print.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::user::RunAs;

/// A command did not run to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The program could not be executed.
    #[error("could not run {program}: {source}; is it installed, and may this user execute it?", program = program.display())]
    Spawn {
        /// The path that was to be executed.
        program: PathBuf,
        /// What execve(2), or reading what the program printed, said.
        source: io::Error,
    },
    /// It was still running when its time was over, and was killed.
    #[error("`{command}` did not end within {limit:?} and was killed")]
    TimedOut {
        /// The whole command line.
        command: String,
        /// The time that it was given.
        limit: Duration,
    },
}

/// A command that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRun {
    /// Its command line, with the paths of the machine that it ran on.
    pub command: String,
    /// Its exit status; `None`: a signal ended it.
    pub status: Option<i32>,
    /// Its output, and its errors after it.
    pub output: String,
}

impl CommandRun {
    /// From what a finished program gave.
    #[must_use]
    pub fn of(command: String, status: std::process::ExitStatus, stdout: &[u8], stderr: &[u8]) -> Self {
        let output = format!("{}{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
        Self { command, status: status.code(), output }
    }
}

/// A command line, for reports.
#[must_use]
pub fn line(program: &Path, args: &[String]) -> String {
    let mut words = vec![program.display().to_string()];
    words.extend(args.iter().cloned());
    words.join(" ")
}

/// Runs a program on this machine, as this user or as ourselves, without input. It is killed after `limit`, and when this future is dropped.
///
/// # Errors
/// [`RunError`]: it could not be started, or did not end in time. How it ended is no error.
pub async fn run(program: &Path, args: &[String], user: Option<&RunAs>, limit: Duration) -> Result<CommandRun, RunError> {
    let command = line(program, args);
    let mut started = std::process::Command::new(program);
    started.args(args).stdin(Stdio::null());
    if let Some(user) = user {
        user.runs(&mut started);
    }
    let output = tokio::process::Command::from(started).kill_on_drop(true).output();
    let finished = tokio::time::timeout(limit, output)
        .await
        .map_err(|_| RunError::TimedOut { command: command.clone(), limit })?
        .map_err(|source| RunError::Spawn { program: program.to_path_buf(), source })?;
    Ok(CommandRun::of(command, finished.status, &finished.stdout, &finished.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_program_that_is_not_there_is_told_from_one_that_does_not_end() {
        let missing = run(Path::new("/nonexistent/openssl"), &[], None, LIMIT).await.expect_err("it can't run");
        assert!(matches!(&missing, RunError::Spawn { source, .. } if source.kind() == io::ErrorKind::NotFound), "{missing:?}");
        assert!(missing.to_string().contains("/nonexistent/openssl"), "{missing}");
        let endless = run(Path::new("sleep"), &["1000".to_owned()], None, Duration::from_millis(20)).await.expect_err("it does not end");
        assert_eq!(endless.to_string(), "`sleep 1000` did not end within 20ms and was killed");
    }

    #[tokio::test]
    async fn a_failed_command_gives_its_status_and_its_output_before_its_errors() {
        let args = ["-c".to_owned(), "echo wrong >&2; echo said; exit 3".to_owned()];
        let run = run(Path::new("/bin/sh"), &args, None, LIMIT).await.expect("it ends");
        assert_eq!((run.status, run.output.as_str()), (Some(3), "said\nwrong\n"));
    }
}
