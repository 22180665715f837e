//! The PostgreSQL of an installation.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::super::configure::{ConfigFile, Paths, Written};
use super::super::instance::{Moment, PORT_TRIES, Place, Placed, STOP_LIMIT, StartError};
use super::super::log::JsonLog;
use super::super::postgres::admin::{end_client_sessions, prepare_application};
use super::super::postgres::process::{copy_data, main_file, reload, start_once};
use super::super::{Failure, Prepared, Shared};
use super::not_configurable;
use super::server::{Files, FilesAt, Installed};
use crate::environment::{Applied, EnvironmentError};
use crate::model::endpoint::Address;
use crate::model::server::{ServerConfig, ServerKey};
use crate::os::child::Child;

/// A PostgreSQL that its installation changes.
pub(super) struct InstalledPostgres {
    shared: Arc<Shared>,
    prepared: Prepared,
    place: Place,
    state: Mutex<State>,
}

struct State {
    /// `None` while it is stopped.
    child: Option<Child>,
    main: Written,
    configuration: Written,
    certificates: Written,
    generation: u64,
}

impl InstalledPostgres {
    /// Starts one in `root`, which must not exist yet.
    pub(super) async fn start(
        shared: Arc<Shared>,
        key: ServerKey,
        root: &Path,
        prepared: Prepared,
        files: FilesAt<'_>,
    ) -> Result<Self, EnvironmentError> {
        let started = async {
            let mut place = Place::make(&shared, key, root, "server.log", "server.json", JsonLog)?;
            copy_data(&shared, &prepared, &place).await?;
            let (main, configuration, certificates) = (Written::default(), Written::default(), Written::default());
            let mut state = State { child: None, main, configuration, certificates, generation: 1 };
            let mut last = None;
            for _ in 0..PORT_TRIES {
                place.paths.port = (shared.options.ports)(&place.paths.listen)
                    .map_err(|error| Failure::new(format!("could not find a free port: {error}"), &place.log))?;
                place.paths.generation = state.generation;
                state.write(&shared, &place, files(&place.paths)).map_err(|reason| Failure::new(reason, &place.log))?;
                match start_once(&shared, &prepared, &place).await {
                    Ok(child) => {
                        state.child = Some(child);
                        return Ok((place, state));
                    }
                    Err(StartError::PortTaken(failure)) => last = Some(failure),
                    Err(error) => return Err(error.into_failure()),
                }
            }
            Err(last.unwrap_or_else(|| Failure::new("no port was tried", &place.log)))
        };
        let (place, state) = started.await.map_err(|failure: Failure| failure.at_start_of(key))?;
        prepare_application(&shared, &place).await.map_err(|reason| place.failure(&reason, Moment::default()).at_start_of(key))?;
        Ok(Self { shared, prepared, place, state: Mutex::new(state) })
    }

    fn down(&self) -> EnvironmentError {
        EnvironmentError::Other(format!("{} is stopped: start it first", self.place.key))
    }
}

impl State {
    fn write(&mut self, shared: &Shared, place: &Place, files: Result<Files, String>) -> Result<(), String> {
        let (files, owner) = (files?, shared.options.user.as_ref());
        self.configuration.bring_to(files.configuration, owner)?;
        self.certificates.bring_to(files.certificates, owner)?;
        self.main.bring_to(vec![main_file(place.key, &place.paths)], owner)
    }
}

#[async_trait]
impl Placed for InstalledPostgres {
    fn place(&self) -> &Place {
        &self.place
    }

    fn clients_unix_socket(&self) -> Option<Address> {
        Some(self.place.unix_socket())
    }

    fn names_clients(&self) -> bool {
        true
    }

    async fn configure(&self, _: &ServerConfig) -> Result<(), EnvironmentError> {
        Err(not_configurable(self.place.key))
    }
}

#[async_trait]
impl Installed for InstalledPostgres {
    fn paths(&self) -> &Paths {
        &self.place.paths
    }

    async fn write_configuration(&self, files: Vec<ConfigFile>) -> Result<(), EnvironmentError> {
        let written = self.state.lock().await.configuration.bring_to(files, self.shared.options.user.as_ref());
        written.map_err(|reason| self.place.not_configured(reason))
    }

    async fn write_certificates(&self, files: Vec<ConfigFile>) -> Result<(), EnvironmentError> {
        let written = self.state.lock().await.certificates.bring_to(files, self.shared.options.user.as_ref());
        written.map_err(|reason| self.place.not_configured(reason))
    }

    async fn reload(&self) -> Result<Applied, EnvironmentError> {
        let mut state = self.state.lock().await;
        let State { child, main, generation, .. } = &mut *state;
        let child = child.as_mut().ok_or_else(|| self.down())?;
        if let Some(status) = child.try_wait() {
            return Err(self.place.lost(status).await);
        }
        *generation += 1;
        let paths = Paths { generation: *generation, ..self.place.paths.clone() };
        let written = main.bring_to(vec![main_file(self.place.key, &paths)], self.shared.options.user.as_ref());
        written.map_err(|reason| self.place.not_configured(reason))?;
        let objection = reload(&self.shared, &self.place, child, *generation).await?;
        Ok(Applied { objection })
    }

    async fn is_up(&self) -> bool {
        self.state.lock().await.child.is_some()
    }

    async fn start(&self) -> Result<Applied, EnvironmentError> {
        let mut state = self.state.lock().await;
        if state.child.is_some() {
            return Err(EnvironmentError::Other(format!("{} runs already", self.place.key)));
        }
        match start_once(&self.shared, &self.prepared, &self.place).await {
            Ok(child) => {
                state.child = Some(child);
                Ok(Applied::default())
            }
            Err(StartError::Ended(said, _)) => Ok(Applied { objection: Some(said) }),
            Err(error) => Err(error.into_failure().at_start_of(self.place.key)),
        }
    }

    async fn stop(&self) -> Result<(), EnvironmentError> {
        let mut child = self.state.lock().await.child.take().ok_or_else(|| self.down())?;
        if let Some(status) = child.try_wait() {
            return Err(self.place.lost(status).await);
        }
        let mark = self.place.book.mark();
        // Fast shutdown: sessions are ended with a message and the data directory is left in order.
        child.signal(Signal::SIGINT);
        let limit = self.shared.options.start_limit;
        match tokio::time::timeout(limit, child.wait()).await {
            Ok(Ok(_)) => {
                self.place.await_shutdown(mark, self.shared.options.reload_limit).await;
                Ok(())
            }
            Ok(Err(error)) => Err(EnvironmentError::Other(format!("{} could not be waited for: {error}", self.place.key))),
            Err(_) => Err(EnvironmentError::Lost {
                server: self.place.key.to_string(),
                reason: format!("it did not stop within {limit:?} of SIGINT"),
                log: self.place.log.clone(),
            }),
        }
    }

    async fn disconnect(&self) -> Result<(), EnvironmentError> {
        let mut state = self.state.lock().await;
        let child = state.child.as_mut().ok_or_else(|| self.down())?;
        if let Some(status) = child.try_wait() {
            return Err(self.place.lost(status).await);
        }
        let ended = end_client_sessions(&self.place, self.shared.options.reload_limit).await;
        ended.map_err(|reason| self.place.not_configured(reason))
    }

    async fn end(&self) {
        if let Some(mut child) = self.state.lock().await.child.take() {
            child.stop(STOP_LIMIT).await;
        }
    }

    fn abandon(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            drop(state.child.take());
        }
    }
}
