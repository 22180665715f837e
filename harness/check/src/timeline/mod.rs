//! A timeline judged: what each client saw after a phase's changes, and how long it was without service.

mod outage;
mod phase;
mod summary;

use std::time::Duration;

pub use outage::{bound_mismatch, client_record, milliseconds};
pub use phase::{ClientSeen, PhaseContext, judge_phase, observed_in_short, settled};
pub use summary::Outages;

use model::observation::{Observation, Refused};

/// One attempt of a client. Times are since the clients' start.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// When the client asked for a connection, or sent its query.
    pub from: Duration,
    /// When the client had its answer.
    pub to: Duration,
    /// Whether it needed a new connection.
    pub fresh: bool,
    /// `Ok`: it was served, after so long as is to be recorded. `Err`: the refusal.
    pub result: Result<Duration, Refused>,
    /// The three witnesses, of an attempt with a connection of its own; of a session that is kept what its client saw as it was opened: its
    /// other witnesses are asked at its end. `None` where a session is used again, and of streaming replication.
    pub observation: Option<Observation>,
}

impl Attempt {
    /// Whether it was served.
    #[must_use]
    pub fn served(&self) -> bool {
        self.result.is_ok()
    }
}
