//! How far a connection has come, and how long each phase took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::Opened;
use crate::error::DriverError;
use crate::held::{Held, LibrarySession};
use model::observation::{ClientObservation, ClientOutcome, Phases, Refused, Session};
use model::refusal::{Refusal, Stage};

/// A duration as [`Phases`] holds it: nanoseconds, capped at what 64 bits hold (584 years).
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A call that ended without a session.
#[derive(Debug)]
pub enum Ended {
    /// The connection was refused, which is an observation.
    Refused(Refused),
    /// The client itself failed: no observation.
    Driver(DriverError),
}

impl From<Refused> for Ended {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<DriverError> for Ended {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// The state of a call that is under way. It outlives the call's future, so a call that is cut off still tells where it stood.
#[derive(Debug)]
pub struct Trace {
    /// What is being waited for.
    pub stage: Stage,
    /// The phases of the present attempt so far.
    pub phases: Phases,
    started: Instant,
}

impl Trace {
    /// A call that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self { stage: Stage::Options, phases: Phases::default(), started: Instant::now() }
    }

    /// Begins another attempt: phases are those of the last one.
    pub fn restart(&mut self) {
        self.stage = Stage::Connect;
        self.phases = Phases::default();
    }

    /// The session is ready for its first query. Counts from the start of the call, earlier attempts included.
    pub fn ready(&mut self) {
        self.phases.connect_ns = Some(nanoseconds(self.started.elapsed()));
        self.stage = Stage::Query;
    }

    /// What came of a finished call to open a session: as [`Trace::observe`], with the session to go on with.
    ///
    /// # Errors
    /// The driver's own failure.
    pub(crate) fn opened<C: LibrarySession>(
        self,
        result: Option<Result<(Session, C), Ended>>,
        limit: Duration,
    ) -> Result<Opened, DriverError> {
        let mut kept = None;
        let result = result.map(|result| {
            result.map(|(session, opened)| {
                kept = Some(opened);
                session
            })
        });
        let observation = self.observe(result, limit)?;
        Ok(match kept {
            Some(opened) => Opened::Session(observation, Box::new(Held::new(opened))),
            None => Opened::Refused(observation),
        })
    }

    /// The observation of a finished call. `limit` is the one that cut it off when `result` is `None`.
    ///
    /// # Errors
    /// The driver's own failure.
    pub fn observe(self, result: Option<Result<Session, Ended>>, limit: Duration) -> Result<ClientObservation, DriverError> {
        let outcome = match result {
            Some(Ok(session)) => ClientOutcome::Session(session),
            Some(Err(Ended::Refused(refused))) => ClientOutcome::Refused(refused),
            Some(Err(Ended::Driver(error))) => return Err(error),
            None => ClientOutcome::Refused(Refused {
                refusal: Refusal::TimedOut(self.stage),
                stage: Some(self.stage),
                sqlstate: None,
                text: format!("nothing came within {limit:?}"),
            }),
        };
        Ok(ClientObservation { outcome, phases: self.phases, settings: BTreeMap::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_is_cut_off_is_a_refusal_at_the_stage_it_had_reached() {
        let mut trace = Trace::start();
        trace.restart();
        trace.stage = Stage::Handshake;
        let observation = trace.observe(None, Duration::from_millis(5)).expect("a timeout is an observation");
        let ClientOutcome::Refused(refused) = observation.outcome else { panic!("no refusal") };
        assert_eq!(refused.refusal, Refusal::TimedOut(Stage::Handshake));
        assert_eq!(refused.stage, Some(Stage::Handshake));
        assert_eq!(observation.phases.connect_ns, None);
    }

    #[test]
    fn another_attempt_keeps_the_start_of_the_call_and_drops_the_phases() {
        let mut trace = Trace::start();
        trace.phases.tls_ns = Some(1);
        let started = trace.started;
        trace.restart();
        assert_eq!(trace.phases, Phases::default());
        assert_eq!(trace.started, started);
    }
}
