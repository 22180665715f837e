//! A session with Redis once TLS is agreed on: `AUTH`, `PING`, and the goodbye.

use std::sync::PoisonError;
use std::time::Instant;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};

use super::refused;
use crate::held::{Background, Conversation};
use crate::tls::{Ended, SharedStreamErrors, Stream, Trace, classify_tls, error_chain, nanoseconds};
use model::connect::RedisRequest;
use model::observation::Refused;
use model::refusal::{AuthRefusal, Refusal, ServerState, Stage};

/// redis' two halves.
pub(super) struct RedisConversation {
    connection: MultiplexedConnection,
    /// Ends when `connection` is dropped or the socket fails; a command that is then under way fails too.
    driver: Background<()>,
    stream_errors: SharedStreamErrors,
}

impl RedisConversation {
    /// Sends nothing yet.
    pub(super) async fn new(stream: Stream, stream_errors: SharedStreamErrors) -> Result<Self, Refused> {
        // RESP2 without a library name: setting up sends nothing, every packet is ours.
        let info = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP2).set_skip_set_lib_name();
        // Time limits are the caller's.
        let config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        let made = MultiplexedConnection::new_with_config(&info, stream, config).await;
        let (connection, driver) = made.map_err(|error| failure(&error, &stream_errors, Stage::Authentication))?;
        Ok(Self { connection, driver: Background::new(driver), stream_errors })
    }

    /// `AUTH` (if there is a password) and `PING`.
    pub(super) async fn begin(&mut self, request: &RedisRequest, trace: &mut Trace) -> Result<(), Ended> {
        trace.stage = Stage::Authentication;
        if let Some(password) = &request.password {
            let begun = Instant::now();
            let mut auth = redis::cmd("AUTH");
            auth.arg(password.reveal());
            self.command(&auth, Stage::Authentication).await?;
            trace.phases.auth_ns = Some(nanoseconds(begun.elapsed()));
            trace.ready();
        }
        let begun = Instant::now();
        // Without a password this is the first thing the server judges.
        self.command(&redis::cmd("PING"), trace.stage).await?;
        if request.password.is_some() {
            trace.phases.query_ns = Some(nanoseconds(begun.elapsed()));
        } else {
            trace.ready();
        }
        Ok(())
    }

    async fn command(&mut self, command: &Cmd, stage: Stage) -> Result<(), Refused> {
        let (answer, _) = self.driver.drive(command.query_async::<String>(&mut self.connection)).await;
        answer.map(drop).map_err(|error| failure(&error, &self.stream_errors, stage))
    }
}

#[async_trait]
impl Conversation for RedisConversation {
    async fn ask(&mut self) -> Result<(), Refused> {
        self.command(&redis::cmd("PING"), Stage::Query).await
    }

    async fn goodbye(self) {
        drop(self.connection);
        self.driver.end().await;
    }
}

fn failure(error: &RedisError, stream_errors: &SharedStreamErrors, stage: Stage) -> Refused {
    let stream_errors = stream_errors.lock().unwrap_or_else(PoisonError::into_inner);
    let text = error_chain(error);
    if let Some(error) = &stream_errors.tls_error {
        // A TLS 1.3 server judges our certificate after we finished: its alert is the first thing it says.
        let stage = if stream_errors.heard { stage } else { Stage::PostHandshake };
        return refused(classify_tls(error, stage), stage, text);
    }
    let refusal = match (error.kind(), error.code()) {
        (_, Some(code)) => classify_code(code, stage),
        (ErrorKind::Io, None) if error.is_timeout() => Refusal::TimedOut(stage),
        (ErrorKind::Io, None) => Refusal::Closed(stage),
        _ => Refusal::Unclassified(stage),
    };
    refused(refusal, stage, text)
}

/// The class of a Redis error code, the first word of an error reply.
fn classify_code(code: &str, stage: Stage) -> Refusal {
    match code {
        "NOAUTH" => Refusal::Auth(AuthRefusal::RedisNoAuth),
        "WRONGPASS" => Refusal::Auth(AuthRefusal::RedisWrongPassword),
        "LOADING" => Refusal::Server(ServerState::StartingUp),
        // In a session it is no refused authentication.
        _ if stage == Stage::Query => Refusal::Unclassified(stage),
        _ => Refusal::Auth(AuthRefusal::Other),
    }
}
