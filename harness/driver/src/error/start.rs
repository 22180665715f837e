//! Why a client program does not run.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::program::ProgramEnd;
use crate::protocol::{MAX_CONCURRENCY, PROTOCOL};
use agent::AgentError;
use os::child::ChildError;

/// A driver could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory or file that the program needs could not be made.
    #[error("could not make {path}: {source}", path = path.display())]
    Prepare {
        /// The directory, or the folder of the files.
        path: PathBuf,
        /// What the system call said.
        source: io::Error,
    },
    /// It runs in the clients' container, of which it could not be found out what is installed there.
    #[error(transparent)]
    Survey(Arc<AgentError>),
    /// The program could not be executed.
    #[error("`{command}`: {source}")]
    Spawn {
        /// What was to be executed, with its arguments.
        command: String,
        /// Where it was tried, and what was found.
        source: SpawnError,
    },
    /// It was executed, and then did not greet as the exec protocol asks for.
    #[error("`{command}`: {source} {end}")]
    Greeting {
        /// What was executed, with its arguments.
        command: String,
        /// What came in place of the greeting.
        source: GreetingError,
        /// It was stopped if it had not ended by itself.
        end: ProgramEnd,
    },
}

/// A client program could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// On this machine: no such program, or no log.
    #[error(transparent)]
    Local(#[from] ChildError),
    /// In the clients' container, or the files that it needs could not be copied there.
    #[error(transparent)]
    Container(#[from] AgentError),
    /// Its standard input and output are not there to be taken.
    #[error("it has no pipes")]
    NoPipes,
}

/// A program's first line is not the greeting that was expected: see `harness/clients/PROTOCOL.md`.
#[derive(Debug, thiserror::Error)]
pub enum GreetingError {
    /// Its output ended before the first line did.
    #[error("it closed its output before its greeting")]
    OutputClosed,
    /// Reading failed, or the line is not UTF-8.
    #[error("could not read its greeting: {0}")]
    Unreadable(#[source] io::Error),
    /// It wrote no whole line in time.
    #[error("no greeting within {limit:?}")]
    Silent {
        /// The time that it had.
        limit: Duration,
    },
    /// The line is not JSON, or has other fields.
    #[error("its first line is no greeting: {source}; the line: {line}")]
    NoGreeting {
        /// Where in the line, and what was expected.
        source: serde_json::Error,
        /// The line, cut off where it is long.
        line: String,
    },
    /// It was written for another harness.
    #[error("it speaks version {found} of the protocol, and this harness version {PROTOCOL}")]
    Protocol {
        /// The version that its greeting gives.
        found: u32,
    },
    /// Scenarios would take it for another driver.
    #[error("it calls itself `{found}`, and `{expected}` was expected")]
    Name {
        /// The name that its greeting gives.
        found: String,
        /// The name under which it was started.
        expected: String,
    },
    /// No connection could be made, or more than make sense.
    #[error("it announces a concurrency of {found}; from 1 to {MAX_CONCURRENCY} is allowed")]
    Concurrency {
        /// How many connections it would make at once.
        found: u32,
    },
}
