//! Programs that run to their end.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use super::client::Agent;
use super::error::AgentError;
use super::protocol::{Child, Finished, Request};
use os::child::ChildSpec;

/// How much longer than the program the agent may take: it then tells what it has killed.
const MARGIN: Duration = Duration::from_secs(10);

/// What came of a program that ran to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramOutput {
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// All that it wrote to standard output; [`Self::output`] gives it as text.
    pub stdout: Vec<u8>,
    /// All that it wrote to standard error; [`Self::errors`] gives it as text.
    pub stderr: Vec<u8>,
}

impl ProgramOutput {
    /// Its output as text, without the white space around it.
    #[must_use]
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Its errors as text, without the white space around it.
    #[must_use]
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

impl Agent {
    /// Runs a program in the container to its end; of the specification `log` and `pipes` don't count. It is killed after `limit`, and
    /// when this future is dropped.
    ///
    /// # Errors
    /// [`AgentError`]: it can't be started, did not end in time, or wrote more than fits in memory. How it ended is no error.
    pub async fn run(&self, spec: &ChildSpec, input: Option<&str>, limit: Duration) -> Result<ProgramOutput, AgentError> {
        let request = Request::Run {
            child: Child::from(spec),
            input: input.map(str::to_owned),
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        };
        let (_, finished): (_, Finished) = self.open(&request, Some(limit.saturating_add(MARGIN))).await?;
        Ok(ProgramOutput { status: ExitStatus::from_raw(finished.status), stdout: finished.stdout.0, stderr: finished.stderr.0 })
    }
}
