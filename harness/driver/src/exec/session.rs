//! A session that a program keeps for us.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::connection::Connection;
use crate::protocol::{Failure, Operation, Outcome};
use crate::{BrokenError, DriverError, HeldSession, Queried, UnableError, classify};
use model::driver::DriverInfo;
use model::observation::{ClientObservation, ClientOutcome, Refused};
use model::refusal::Stage;

/// The session that the request with this id opened. It lives as long as its program.
pub(super) struct ExecSession {
    connection: Arc<Connection>,
    info: DriverInfo,
    id: u64,
    state: State,
}

enum State {
    Open,
    /// The program has forgotten it.
    Over(Refused),
    /// The program can't be relied on any more, or closes the session.
    Lost,
}

impl ExecSession {
    pub(super) fn new(connection: Arc<Connection>, info: DriverInfo, id: u64) -> Self {
        Self { connection, info, id, state: State::Open }
    }

    fn broken(&self, cause: impl Into<Arc<BrokenError>>) -> DriverError {
        DriverError::broken(&self.info.name, cause)
    }

    /// What an outcome says of the session; `None` where it answered.
    fn ended(&self, outcome: Outcome) -> Result<Option<Refused>, DriverError> {
        let at_query = |failure: Failure| Failure { stage: Some(failure.stage.unwrap_or(Stage::Query)), ..failure };
        match outcome {
            Outcome::Answered => Ok(None),
            Outcome::Refused(failure) => Ok(Some(classify::refused(self.info.family, &at_query(failure)))),
            Outcome::TimedOut(failure) => Ok(Some(classify::timed_out(&at_query(failure)))),
            Outcome::Observation(ClientObservation { outcome: ClientOutcome::Refused(refused), .. }) => Ok(Some(refused)),
            Outcome::Observation(_) | Outcome::Closed => Err(self.broken(BrokenError::NoQueryAnswer { session: self.id })),
            Outcome::Unable(reason) => Err(DriverError::unable(&self.info.name, UnableError::Reported(reason))),
            Outcome::Error(reason) => Err(self.broken(BrokenError::Reported(reason))),
        }
    }
}

#[async_trait]
impl HeldSession for ExecSession {
    async fn query(&mut self, limit: Duration) -> Result<Queried, DriverError> {
        match &self.state {
            State::Open => {}
            State::Over(refused) => return Ok(Queried::Ended(refused.clone())),
            State::Lost => return Err(self.broken(BrokenError::SessionLost)),
        }
        let outcome = match self.connection.request(Operation::Query(self.id), limit).await {
            Ok(Some((_, outcome))) => self.ended(outcome),
            Ok(None) => Err(DriverError::Hang { driver: self.info.name.clone(), limit: limit + self.connection.limits().grace }),
            Err(cause) => Err(self.broken(cause)),
        };
        match outcome {
            Ok(None) => Ok(Queried::Answered),
            Ok(Some(refused)) => {
                self.state = State::Over(refused.clone());
                Ok(Queried::Ended(refused))
            }
            Err(error) => {
                self.state = State::Lost;
                Err(error)
            }
        }
    }

    async fn close(mut self: Box<Self>) {
        if matches!(std::mem::replace(&mut self.state, State::Lost), State::Open) {
            // A program that can't close it takes it along when it ends.
            let _ = self.connection.request(Operation::Close(self.id), self.connection.limits().close).await;
        }
    }
}

impl Drop for ExecSession {
    fn drop(&mut self) {
        if matches!(self.state, State::Open) {
            // As above; and nobody waits for the answer.
            let _ = self.connection.send(Operation::Close(self.id), self.connection.limits().close, None);
        }
    }
}
