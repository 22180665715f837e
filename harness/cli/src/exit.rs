//! Exit codes, one by one.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: every case passed, was skipped for a reason, or deviates as known.
    Conformant,
    /// 1: a case failed, a known deviation passed or is overdue.
    NotConformant,
    /// 2: bad usage or input files.
    Usage,
    /// 3: the environment or the harness failed, or left something behind; what ran to an end may still be conformant, but that is not known.
    Environment,
    /// 4: nothing ran: no case matched, a filter matched none, or all were skipped.
    NothingRan,
    /// 5: interrupted by SIGINT, SIGTERM or SIGHUP; the cases that had not begun by then were skipped.
    Interrupted,
}

impl Exit {
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Conformant => 0,
            Self::NotConformant => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::NothingRan => 4,
            Self::Interrupted => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
