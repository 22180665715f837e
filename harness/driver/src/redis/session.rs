//! A session with Redis once TLS is agreed on: `AUTH`, then `PING` as often as asked.

use std::time::Instant;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ProtocolVersion, RedisConnectionInfo};

use super::refusal::failure;
use crate::held::{Background, LibrarySession};
use crate::tls::{Ended, SharedStreamErrors, Stream, Trace, nanoseconds};
use model::connect::RedisRequest;
use model::observation::Refused;
use model::refusal::Stage;

/// The client half of redis-rs, which sends commands, and the half that moves their bytes.
pub(super) struct RedisSession {
    connection: MultiplexedConnection,
    /// Ends when `connection` is dropped or the socket fails; a command that is then under way fails too.
    driver: Background<()>,
    stream_errors: SharedStreamErrors,
}

impl RedisSession {
    /// A session that has not sent anything yet.
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
impl LibrarySession for RedisSession {
    async fn query(&mut self) -> Result<(), Refused> {
        self.command(&redis::cmd("PING"), Stage::Query).await
    }

    async fn close(self) {
        drop(self.connection);
        self.driver.end().await;
    }
}
