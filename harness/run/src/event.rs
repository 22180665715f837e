//! What a run says while it goes on: the runner emits, reporters consume, and the runner never knows which ones.

use std::io;
use std::time::Duration;

use model::report::{CaseRecord, EnvironmentRecord, Summary};

/// Something that happened. A run is one [`Event::RunStarted`], then any number of the others, then one [`Event::RunFinished`], also when it
/// is interrupted or ends early.
#[derive(Debug, Clone)]
pub enum Event {
    /// The environment is known and the cases are planned.
    RunStarted {
        /// Where the run takes place.
        environment: Box<EnvironmentRecord>,
        /// Number of cases, those included that will be skipped.
        planned: usize,
        /// The wall clock at the beginning, RFC 3339 in UTC.
        started_at: String,
    },
    /// A server has started, and answers for the first time.
    ServerReady {
        /// Its name, such as `postgres-17 documented`.
        name: String,
        /// From its start to its first answer.
        took: Duration,
    },
    /// Every case without a timeline has ended; those with one begin.
    TimelinesStarted {
        /// The number of cases with a timeline that were not skipped by then.
        planned: usize,
    },
    /// A case begins. Cases run concurrently.
    CaseStarted {
        /// The id, by which its [`Event::CaseFinished`] is found.
        id: String,
    },
    /// A case ended, in whatever way: skipped cases are here without a [`Event::CaseStarted`].
    CaseFinished(Box<CaseRecord>),
    /// Something of the input that the run says nothing about.
    Warning(String),
    /// A problem of the run that belongs to no case, such as a stale deviation.
    Problem(String),
    /// Something that the run made is still there at its end, with what was tried to remove it.
    LeftBehind(String),
    /// Everything but the cases, folded.
    RunFinished(Box<Summary>),
}

/// Consumes a run's events in order.
pub trait Reporter: Send {
    /// Takes one event.
    ///
    /// # Errors
    ///
    /// Where something can't be written, with the place in its text. The run goes on for the other reporters.
    fn event(&mut self, event: &Event) -> io::Result<()>;
}
