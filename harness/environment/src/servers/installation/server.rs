//! A server of an installation: what the installation does with it, and its process and files, whichever server it is.

use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::super::configure::{ConfigFile, Paths};
use super::super::instance::{Place, Placed, ProcessState, STOP_LIMIT, StartError};
use super::super::machine::{self, Machine, Paused};
use super::super::shared::Shared;
use super::super::written::Written;
use crate::error::{ConfigError, EnvironmentError, LostCause, MachineError, WrongState};
use crate::{Applied, EvidenceFile, Server};
use model::server::ServerConfig;

/// All files of a server that come from the deployment.
pub(super) struct Files {
    /// Those that configure it.
    pub(super) configuration: Vec<ConfigFile>,
    /// Certificates, keys and CAs.
    pub(super) certificates: Vec<ConfigFile>,
}

/// Says what a server's files hold, once it is known where they are and which port it has.
pub(super) type FilesAt<'a> = &'a (dyn Fn(&Paths) -> Result<Files, ConfigError> + Send + Sync);

/// What of a server changes.
#[derive(Default)]
pub(super) struct Process {
    /// While it is paused. Before the child, which can't end while it is.
    pub(super) paused: Option<Paused>,
    /// `None` while it is stopped.
    pub(super) child: Option<machine::Process>,
    pub(super) configuration: Written,
    pub(super) certificates: Written,
}

impl Process {
    /// Brings all files to what the deployment says.
    pub(super) async fn write(&mut self, files: Files, machine: &dyn Machine) -> Result<(), MachineError> {
        self.configuration.bring_to(files.configuration, machine).await?;
        self.certificates.bring_to(files.certificates, machine).await
    }
}

/// What every server of an installation is made of.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    pub(super) process: Mutex<Process>,
}

#[async_trait]
impl<T: Installed> Placed for T {
    fn place(&self) -> &Place {
        &self.parts().place
    }

    fn process_state(&self) -> ProcessState {
        let process = self.process().try_lock();
        process.map_or(ProcessState::Down, |mut process| process.child.as_mut().map_or(ProcessState::Down, ProcessState::of))
    }

    async fn settings(&self) -> Vec<EvidenceFile> {
        self.ask_settings().await
    }

    async fn configure(&self, _: &ServerConfig) -> Result<(), EnvironmentError> {
        Err(EnvironmentError::NotConfigurable(self.place().key))
    }
}

/// A server of an installation. It stays the same over its stops and starts, with its address.
#[async_trait]
pub(super) trait Installed: Server + Placed {
    /// Where it is, and what of it changes.
    fn parts(&self) -> &Parts;

    /// The signal that stops it in order.
    fn stop_signal(&self) -> Signal;

    /// Starts its process with its files as they are.
    async fn start_once(&self) -> Result<machine::Process, StartError>;

    /// Makes it read its files again.
    async fn reload(&self) -> Result<Applied, EnvironmentError>;

    /// Its effective settings, as it tells them.
    async fn ask_settings(&self) -> Vec<EvidenceFile>;

    /// Ends the sessions of clients.
    async fn disconnect(&self) -> Result<(), EnvironmentError>;

    /// What it shares with all servers of the environment.
    fn shared(&self) -> &Shared {
        &self.parts().shared
    }

    /// Its process and files.
    fn process(&self) -> &Mutex<Process> {
        &self.parts().process
    }

    /// Where its things are.
    fn paths(&self) -> &Paths {
        &self.place().paths
    }

    /// Writes its configuration files and tells it nothing.
    async fn write_configuration(&self, files: Vec<ConfigFile>) -> Result<(), EnvironmentError> {
        let written = self.process().lock().await.configuration.bring_to(files, self.place().machine.as_ref()).await;
        written.map_err(|error| self.place().not_configured(error))
    }

    /// Writes its certificates, keys and CAs and tells it nothing.
    async fn write_certificates(&self, files: Vec<ConfigFile>) -> Result<(), EnvironmentError> {
        let written = self.process().lock().await.certificates.bring_to(files, self.place().machine.as_ref()).await;
        written.map_err(|error| self.place().not_configured(error))
    }

    /// Whether it was not stopped. It may have ended by itself.
    async fn is_up(&self) -> bool {
        self.process().lock().await.child.is_some()
    }

    /// Its running process; an error if it was stopped or paused, or has ended by itself.
    async fn running<'a>(&self, process: &'a mut Process) -> Result<&'a mut machine::Process, EnvironmentError> {
        let wrong = |state| EnvironmentError::State { what: self.place().key.to_string(), state };
        let child = process.child.as_mut().ok_or_else(|| wrong(WrongState::Stopped))?;
        if process.paused.is_some() {
            return Err(wrong(WrongState::Paused));
        }
        match child.try_wait() {
            Some(status) => Err(self.place().lost(status).await),
            None => self.place().unseen().map_or(Ok(child), Err),
        }
    }

    /// Starts it, stopped before. A start that it refuses is an objection, and it stays down.
    async fn start(&self) -> Result<Applied, EnvironmentError> {
        let mut process = self.process().lock().await;
        let key = self.place().key;
        if process.child.is_some() {
            return Err(EnvironmentError::State { what: key.to_string(), state: WrongState::Running });
        }
        let up = self.place().machine.start_up().await;
        up.map_err(|error| self.place().not_configured(error))?;
        match self.start_once().await {
            Ok(child) => {
                process.child = Some(child);
                Ok(Applied::default())
            }
            Err(StartError::Ended(said, _)) => Ok(Applied { objection: Some(said) }),
            Err(error) => Err(error.into_failure().at_start_of(&key)),
        }
    }

    /// Stops it in order.
    async fn stop(&self) -> Result<(), EnvironmentError> {
        let (place, options, signal) = (self.place(), &self.shared().options, self.stop_signal());
        let mut process = self.process().lock().await;
        let child = self.running(&mut process).await?;
        let mark = place.index.mark();
        child.signal(signal);
        let limit = options.start_limit;
        let ended = tokio::time::timeout(limit, child.wait()).await;
        // One that does not stop is killed as it is dropped.
        process.child = None;
        match ended {
            Ok(Ok(_)) => {
                place.await_shutdown(mark, options.reload_limit).await;
                Ok(())
            }
            Ok(Err(error)) => Err(EnvironmentError::Wait { server: place.key, source: Arc::new(error) }),
            Err(_) => Err(place.lost_by(LostCause::Stop { limit, signal })),
        }
    }

    /// Stops it for good, in the fastest way that leaves nothing.
    async fn end(&self) {
        let mut process = self.process().lock().await;
        if let Some(paused) = process.paused.take() {
            // One that can't go on is killed below.
            let _ = self.place().machine.resume(paused).await;
        }
        if let Some(mut child) = process.child.take() {
            child.stop(STOP_LIMIT).await;
        }
        self.place().close().await;
    }

    /// The same without waiting for others: when the installation is dropped. Blocks for some milliseconds.
    fn abandon(&self) {
        if let Ok(mut process) = self.process().try_lock() {
            process.paused = None;
            drop(process.child.take());
        }
    }
}
