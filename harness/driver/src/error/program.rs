//! How a client program ended.

use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

/// The end of a client program, as errors show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramEnd {
    /// Its exit code or the signal that ended it; `None` where the system would not tell.
    pub status: Option<ExitStatus>,
    /// Where its standard error went.
    pub log: PathBuf,
    /// The last lines of that log, without passwords.
    pub tail: String,
}

impl fmt::Display for ProgramEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Some(status) => write!(f, "({status})")?,
            None => write!(f, "(how it ended is unknown)")?,
        }
        let tail = if self.tail.trim().is_empty() { "(empty)" } else { &self.tail };
        write!(f, "; the end of its log {}:\n{tail}", self.log.display())
    }
}
