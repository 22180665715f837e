//! Commands that run to their end, for what they print.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

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

/// Runs a program on this machine, as ourselves, without input. It is killed after `limit`, and when this future is dropped.
///
/// # Errors
/// A line of text: it could not be started, or did not end in time.
pub async fn run(program: &Path, args: &[String], limit: Duration) -> Result<CommandRun, String> {
    let command = line(program, args);
    let output = tokio::process::Command::new(program).args(args).stdin(Stdio::null()).kill_on_drop(true).output();
    let finished = tokio::time::timeout(limit, output)
        .await
        .map_err(|_| format!("`{command}` did not end within {limit:?}"))?
        .map_err(|error| format!("could not run {}: {error}", program.display()))?;
    Ok(CommandRun::of(command, finished.status, &finished.stdout, &finished.stderr))
}
