//! The Redis of an installation.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use tokio::sync::Mutex;

use super::super::instance::{Place, Placed as _, PortTries, StartError};
use super::super::machine;
use super::super::redis::{admin_socket, make_data, sets_several, settings, start_once};
use super::super::shared::Shared;
use super::server::{FilesAt, Installed, Parts, Process};
use crate::error::{ConfigureCause, EnvironmentError, Failure};
use crate::{Applied, EvidenceFile};
use deployment::redis_conf::{CLIENT_CA, SERVER_CERTIFICATE, SERVER_KEY};
use model::server::ServerKey;
use os::toolchain::Tool;
use serverlog::RedisLog;

/// How long the log's line on a refused `CONFIG SET` is waited for: it is written before the answer.
const LINE_LIMIT: Duration = Duration::from_millis(500);

/// A Redis that its installation changes.
pub(super) struct InstalledRedis {
    parts: Parts,
    program: Tool,
}

impl InstalledRedis {
    /// Starts the one whose files are at `name` below the run's directory.
    pub(super) async fn start(shared: Arc<Shared>, key: ServerKey, name: &str, files: FilesAt<'_>) -> Result<Self, EnvironmentError> {
        let machine = shared.machine(key, name).await?;
        let started = async {
            let mut place = Place::make(&shared, Arc::clone(&machine), key, name, "redis.log", "redis.log", RedisLog::default()).await?;
            let program = make_data(&place).await?;
            let mut process = Process::default();
            let mut tries = PortTries::default();
            while process.child.is_none() {
                place.take_port()?;
                let files = files(&place.paths).map_err(|error| Failure::new(error, &place.log))?;
                process.write(files, machine.as_ref()).await.map_err(|error| Failure::new(error, &place.log))?;
                process.child = tries.result(start_once(&shared, &program, &place).await)?;
            }
            Ok((program, place, process))
        };
        let (program, place, process) = started.await.map_err(|failure: Failure| failure.at_start_of(&key))?;
        Ok(Self { parts: Parts { shared, place, process: Mutex::new(process) }, program })
    }

    /// Asks one thing over the unix socket.
    async fn ask(&self, command: &redis::Cmd) -> Result<Result<redis::Value, RedisError>, EnvironmentError> {
        let limit = self.shared().options.reload_limit;
        let settings = RedisConnectionInfo::default().set_password(self.place().paths.password.reveal()).set_skip_set_lib_name();
        let asked = async {
            let stream = self.place().machine.unix(&admin_socket(self.place())).await?;
            let (mut connection, driver) = MultiplexedConnection::new_with_config(&settings, stream, AsyncConnectionConfig::new()).await?;
            // It ends as the connection is dropped.
            tokio::spawn(driver);
            Ok::<_, RedisError>(command.query_async(&mut connection).await)
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.place().not_configured(ConfigureCause::RedisSession(Arc::new(error)))),
            Err(_) => Err(self.place().not_configured(ConfigureCause::RedisSilent { limit })),
        }
    }
}

#[async_trait]
impl Installed for InstalledRedis {
    fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What Kubernetes sends; it is taken at the next tick of its clock, within a tenth of a second.
    fn stop_signal(&self) -> Signal {
        Signal::SIGTERM
    }

    async fn start_once(&self) -> Result<machine::Process, StartError> {
        start_once(self.shared(), &self.program, self.place()).await
    }

    /// `CONFIG SET` of all TLS files in one command: with one after the other, certificate and key would not belong together in between. The
    /// same paths are read anew (`VOLATILE_CONFIG` in Redis' src/config.c).
    async fn reload(&self) -> Result<Applied, EnvironmentError> {
        let mut process = self.process().lock().await;
        self.running(&mut process).await?;
        if !sets_several(&self.program.version) {
            return Err(EnvironmentError::OldRedis { version: self.program.version.clone() });
        }
        let mark = self.place().index.mark();
        let mut command = redis::cmd("CONFIG");
        command.arg("SET");
        for (setting, file) in [("tls-cert-file", SERVER_CERTIFICATE), ("tls-key-file", SERVER_KEY), ("tls-ca-cert-file", CLIENT_CA)] {
            command.arg(setting).arg(self.place().paths.certificates.join(file).to_string_lossy().into_owned());
        }
        match self.ask(&command).await? {
            Ok(_) => Ok(Applied::default()),
            Err(error) if error.code().is_some() || error.detail().is_some() => {
                let failed = |lines: &[model::observation::LogLine]| lines.iter().any(|line| line.contains("Failed to"));
                let lines = self.place().says_since(mark, &failed, LINE_LIMIT).await;
                let mut said = vec![error.to_string()];
                // Redis tries its old settings, which name the same files, and says it all again.
                for line in lines.iter().filter(|line| line.contains("Failed to")) {
                    if !said.contains(&line.message) {
                        said.push(line.message.clone());
                    }
                }
                Ok(Applied { objection: Some(said.join("\n")) })
            }
            Err(error) => Err(self.place().not_configured(ConfigureCause::BrokeOff(Arc::new(error)))),
        }
    }

    async fn ask_settings(&self) -> Vec<EvidenceFile> {
        settings(self.place()).await
    }

    async fn disconnect(&self) -> Result<(), EnvironmentError> {
        let mut process = self.process().lock().await;
        self.running(&mut process).await?;
        // Not the connection that asks: SKIPME is yes unless told otherwise.
        let answer = self.ask(redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal")).await?;
        answer.map(drop).map_err(|error| self.place().not_configured(ConfigureCause::Disconnect(Arc::new(error))))
    }
}
