//! Clients behind a pipe: any program that speaks the JSON lines of [`protocol`](crate::protocol).
//!
//! One program serves several requests at once, and may keep sessions. When it ends unexpectedly, every request in flight becomes
//! [`DriverError::Broken`], and so does the next query of each of its sessions; the next request starts it anew, unless it had ended without
//! a single answer: then it would only end again, and the error stays.

mod connection;
mod limits;
mod nautobot;
mod process;
pub mod program;
mod python;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use crate::protocol::{Operation, Outcome};
use crate::{BrokenError, Driver, DriverError, Opened, UnableError, classify};
use agent::ClientContainer;
use model::connect::{ConnectRequest, RedisTls, SslMode};
use model::driver::DriverInfo;
use model::endpoint::Address;
use model::observation::{ClientObservation, ClientOutcome};
use model::refusal::Stage;

use connection::Connection;
pub use limits::ProgramLimits;
pub use nautobot::{ConfigError, check_nautobot_config};
pub use program::Program;
use session::ExecSession;

/// A client program, running.
///
/// Requests beyond the concurrency that the program announced wait for a slot; that wait does not count against a request's limit, and is
/// itself bounded, since every request in flight ends at its own limit.
pub struct ExecDriver {
    program: Program,
    info: DriverInfo,
    state: Mutex<State>,
}

enum State {
    Running(Arc<Connection>),
    /// It ended, and starting it again is of no use.
    Ended(Arc<BrokenError>),
    Closed,
}

impl ExecDriver {
    /// Starts the program and waits for its greeting.
    ///
    /// # Errors
    /// [`DriverError::Start`] if it can't be started, ends or stays silent before its greeting, or is not the driver that was expected.
    pub async fn start(program: Program) -> Result<Self, DriverError> {
        let (connection, info) = Connection::open(&program).await?;
        Ok(Self { program, info, state: Mutex::new(State::Running(Arc::new(connection))) })
    }

    /// The running program, started again if it has ended since the last request.
    async fn connection(&self) -> Result<Arc<Connection>, DriverError> {
        let mut state = self.state.lock().await;
        let cause = match &*state {
            State::Running(connection) => match connection.end() {
                None => return Ok(Arc::clone(connection)),
                Some(cause) if connection.answers() == 0 => cause,
                Some(_) => {
                    let (connection, _) = Connection::open(&self.program).await?;
                    let connection = Arc::new(connection);
                    *state = State::Running(Arc::clone(&connection));
                    return Ok(connection);
                }
            },
            State::Ended(cause) => Arc::clone(cause),
            State::Closed => return Err(self.broken(BrokenError::Closed)),
        };
        *state = State::Ended(Arc::clone(&cause));
        Err(self.broken(cause))
    }

    /// Has a connection made, and gives what came of it, with the request's id. `plaintext` is [`plaintext`] of the request.
    async fn observe(
        &self,
        connection: &Connection,
        operation: Operation,
        plaintext: bool,
        limit: Duration,
    ) -> Result<(u64, ClientObservation), DriverError> {
        let driver = || self.info.name.clone();
        let Some((id, outcome)) = connection.request(operation, limit).await.map_err(|cause| self.broken(cause))? else {
            return Err(DriverError::Hang { driver: driver(), limit: limit + connection.limits().grace });
        };
        let observation = match outcome {
            Outcome::Observation(observation) => observation,
            Outcome::Refused(mut failure) => {
                if failure.stage.is_none() && plaintext {
                    failure.stage = Some(Stage::Authentication);
                }
                let refused = classify::refused(self.info.family, &failure);
                ClientObservation { phases: failure.phases, outcome: ClientOutcome::Refused(refused), settings: failure.settings }
            }
            Outcome::TimedOut(failure) => {
                let outcome = ClientOutcome::Refused(classify::timed_out(&failure));
                ClientObservation { phases: failure.phases, outcome, settings: failure.settings }
            }
            Outcome::Answered | Outcome::Closed => {
                return Err(self.broken(BrokenError::NoObservation));
            }
            Outcome::Unable(reason) => return Err(DriverError::unable(driver(), UnableError::Reported(reason))),
            Outcome::Error(reason) => return Err(self.broken(BrokenError::Reported(reason))),
        };
        Ok((id, observation))
    }

    fn broken(&self, cause: impl Into<Arc<BrokenError>>) -> DriverError {
        DriverError::broken(&self.info.name, cause)
    }
}

/// Whether all that can fail after the connect is the authentication: what a client which tells no stage leaves open.
fn plaintext(request: &ConnectRequest) -> bool {
    match request {
        ConnectRequest::Postgres(request) => {
            request.sslmode == Some(SslMode::Disable) || matches!(request.endpoint.address, Address::Unix { .. })
        }
        ConnectRequest::Redis(request) => request.tls == Some(RedisTls::Off),
    }
}

#[async_trait]
impl Driver for ExecDriver {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    async fn connect(&self, request: &ConnectRequest, limit: Duration) -> Result<ClientObservation, DriverError> {
        let connection = self.connection().await?;
        let (_, observation) = self.observe(&connection, Operation::Connect(request.clone()), plaintext(request), limit).await?;
        Ok(observation)
    }

    async fn open(&self, request: &ConnectRequest, limit: Duration) -> Result<Opened, DriverError> {
        let connection = self.connection().await?;
        if !connection.sessions() {
            return Err(DriverError::unable(&self.info.name, UnableError::SessionsNotAnnounced));
        }
        let (id, observation) = self.observe(&connection, Operation::Open(request.clone()), plaintext(request), limit).await?;
        Ok(match &observation.outcome {
            ClientOutcome::Session(_) => Opened::Session(observation, Box::new(ExecSession::new(connection, self.info.clone(), id))),
            ClientOutcome::Refused(_) => Opened::Refused(observation),
        })
    }

    fn client_container(&self) -> Option<&ClientContainer> {
        self.program.client_container.as_deref()
    }

    async fn close(&self) {
        let before = std::mem::replace(&mut *self.state.lock().await, State::Closed);
        if let State::Running(connection) = before {
            connection.close().await;
        }
    }
}
