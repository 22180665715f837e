//! A start that is to show whether a server takes a configuration at all.
//!
//! A reload tells something else: PostgreSQL goes on with what it had, and objects to parameters that only a start can change.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::environment::remove_files;
use super::instance::{Place, PortTries, STOP_LIMIT, StartError};
use super::machine::{Machine, Process};
use super::postgres::process;
use super::shared::Shared;
use super::written::Written;
use super::{postgres, redis};
use crate::EnvironmentError;
use crate::error::Failure;
use model::server::{ServerConfig, ServerKey, Service};
use os::toolchain::Tool;
use serverlog::{JsonLog, RedisLog};

/// How many were made, for names that none had before: the files of one that failed stay.
static MADE: AtomicU64 = AtomicU64::new(1);

/// See [`Environment::objection`](crate::Environment::objection).
pub(super) async fn objection(shared: &Shared, key: ServerKey, config: &ServerConfig) -> Result<Option<String>, EnvironmentError> {
    let name = format!("{key}-trial-{}", MADE.fetch_add(1, Ordering::Relaxed));
    let machine = shared.machine(key, &name).await?;
    let said = tried(shared, key, &name, &machine, config).await;
    machine.close().await;
    // After a failure its log is still to be read; the rest goes with the run's directory.
    if said.is_ok() {
        remove_files(shared, &name).await;
    }
    said
}

async fn tried(
    shared: &Shared,
    key: ServerKey,
    name: &str,
    machine: &Arc<dyn Machine>,
    config: &ServerConfig,
) -> Result<Option<String>, EnvironmentError> {
    let mut trial = Trial::make(shared, key, name, Arc::clone(machine)).await.map_err(|failure| failure.at_start_of(&name))?;
    let Some(Ended { said, .. }) = trial.start(shared, config).await.map_err(|failure| failure.at_start_of(&name))? else {
        return Ok(None);
    };
    // The positive control: only the configuration is another.
    let control = format!("the control of a start that failed, {key} in the same place with the deployment's own configuration,");
    match trial.start(shared, &ServerConfig::default()).await {
        Ok(None) => Ok(Some(said)),
        Ok(Some(ended)) => Err(ended.failure.at_start_of(&control)),
        Err(failure) => Err(failure.at_start_of(&control)),
    }
}

/// A place for servers that start one after the other.
struct Trial {
    place: Place,
    program: Program,
    written: Written,
}

/// A server that ended by itself before it was ready.
struct Ended {
    /// What it said against its start.
    said: String,
    failure: Failure,
}

/// What starts there.
enum Program {
    /// PostgreSQL, by the directory of its programs.
    Postgres(PathBuf),
    Redis(Tool),
}

impl Trial {
    async fn make(shared: &Shared, key: ServerKey, name: &str, machine: Arc<dyn Machine>) -> Result<Self, Failure> {
        let (place, program) = match key.service {
            Service::Postgres => {
                let mut place = Place::make(shared, Arc::clone(&machine), key, name, "server.log", "server.json", JsonLog).await?;
                // Nobody is to connect to it, and its rules are the deployment's alone.
                place.paths.listen.clear();
                let bin = machine.make_data(key.version.unwrap_or_default(), &place.paths.data).await?;
                (place, Program::Postgres(bin))
            }
            Service::Redis => {
                let place = Place::make(shared, machine, key, name, "redis.log", "redis.log", RedisLog::default()).await?;
                let tool = redis::make_data(&place).await?;
                (place, Program::Redis(tool))
            }
        };
        Ok(Self { place, program, written: Written::default() })
    }

    /// Starts it with this configuration, and stops it again; how it ended where it did by itself.
    async fn start(&mut self, shared: &Shared, config: &ServerConfig) -> Result<Option<Ended>, Failure> {
        let mut tries = PortTries::default();
        loop {
            self.place.take_port()?;
            let (place, key) = (&self.place, self.place.key);
            let files = match &self.program {
                Program::Postgres(_) => postgres::files(shared, key, &place.paths, config, None),
                Program::Redis(_) => shared.options.configurator.files(key, config, &place.paths),
            };
            let files = files.map_err(|error| Failure::new(error, &place.log))?;
            let brought = self.written.bring_to(files, place.machine.as_ref()).await;
            brought.map_err(|error| Failure::new(error, &place.log))?;
            let started: Result<Process, StartError> = match &self.program {
                Program::Postgres(bin) => process::start_once(shared, bin, place).await,
                Program::Redis(tool) => redis::start_once(shared, tool, place).await,
            };
            match started {
                Err(StartError::Ended(said, failure)) => return Ok(Some(Ended { said, failure })),
                other => {
                    if let Some(mut server) = tries.result(other)? {
                        server.stop(STOP_LIMIT).await;
                        return Ok(None);
                    }
                }
            }
        }
    }
}
