//! Faults: what happens to a server without its doing.

use super::super::gateway::HaproxyGateway;
use super::super::machine;
use super::running::RunningInstallation;
use super::server::Installed;
use crate::error::{EnvironmentError, LostCause, MachineError, WrongState};
use model::change::{Change, Target};

/// What a server is after [`Change::Cut`], for errors.
const CUT: &str = "cut off from its network";

/// What a server is after [`Change::Mend`], for errors.
const MENDED: &str = "connected to its network again";

impl RunningInstallation {
    /// Makes or ends a fault of a server, or of the gateway.
    pub(super) async fn fault(&self, change: &Change<String>) -> Result<(), EnvironmentError> {
        match change {
            Change::Pause(Target::Gateway) => self.own_gateway()?.pause().await,
            Change::Resume(Target::Gateway) => self.own_gateway()?.resume().await,
            Change::Kill(Target::Gateway) => self.own_gateway()?.kill().await,
            Change::Cut(Target::Gateway) => {
                let gateway = self.own_gateway()?;
                gateway.machine.cut().await.map_err(|source| gateway.fault(CUT, source))
            }
            Change::Mend(Target::Gateway) => {
                let gateway = self.own_gateway()?;
                gateway.machine.mend().await.map_err(|source| gateway.fault(MENDED, source))
            }
            Change::Pause(target) => pause(self.installed(*target)?.as_ref()).await,
            Change::Resume(target) => resume(self.installed(*target)?.as_ref()).await,
            Change::Kill(target) => kill(self.installed(*target)?.as_ref()).await,
            Change::Cut(target) => {
                let place = self.installed(*target)?.place();
                place.machine.cut().await.map_err(|source| fault(&place.key, CUT, source))
            }
            Change::Mend(target) => {
                let place = self.installed(*target)?.place();
                place.machine.mend().await.map_err(|source| fault(&place.key, MENDED, source))
            }
            other => Err(EnvironmentError::NoChange(other.to_string())),
        }
    }
}

async fn pause(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let (place, limit) = (server.place(), server.shared().options.start_limit);
    let mut process = server.process().lock().await;
    let first = server.running(&mut process).await?.pid().unwrap_or_default();
    let paused = place.machine.pause(&place.paths.data, first, limit).await;
    process.paused = Some(paused.map_err(|error| place.lost_by(LostCause::Pause(error)))?);
    Ok(())
}

async fn resume(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let mut process = server.process().lock().await;
    let paused = process.paused.take().ok_or_else(|| not_paused(&server.place().key))?;
    let resumed = server.place().machine.resume(paused).await;
    resumed.map_err(|error| server.place().lost_by(LostCause::Resume(error)))
}

/// Kills it, paused or not, and returns when nothing of it is left but its files and shared memory.
async fn kill(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let (place, limit) = (server.place(), server.shared().options.start_limit);
    let mut process = server.process().lock().await;
    let paused = process.paused.take();
    let child = server.running(&mut process).await?;
    let killed = place.machine.kill(paused, &place.paths.data, child, limit).await;
    process.child = None;
    killed.map_err(|error| place.lost_by(LostCause::Kill(error)))
}

fn fault(what: &impl ToString, action: &'static str, source: MachineError) -> EnvironmentError {
    EnvironmentError::Fault { what: what.to_string(), action, source }
}

fn not_paused(what: &impl ToString) -> EnvironmentError {
    EnvironmentError::State { what: what.to_string(), state: WrongState::NotPaused }
}

/// What errors call the gateway of an installation.
const GATEWAY: &str = "the gateway";

fn gateway_stopped() -> EnvironmentError {
    EnvironmentError::State { what: GATEWAY.to_owned(), state: WrongState::Stopped }
}

impl HaproxyGateway {
    async fn pause(&self) -> Result<(), EnvironmentError> {
        let mut paused = self.paused.lock().await;
        if paused.is_some() {
            return Err(EnvironmentError::State { what: GATEWAY.to_owned(), state: WrongState::PausedAlready });
        }
        let first = self.child.lock().await.as_ref().and_then(machine::Process::pid);
        let first = first.ok_or_else(gateway_stopped)?;
        let frozen = self.machine.pause(&self.directory, first, self.start_limit()).await;
        *paused = Some(frozen.map_err(|source| self.fault("paused", source))?);
        Ok(())
    }

    async fn resume(&self) -> Result<(), EnvironmentError> {
        let paused = self.paused.lock().await.take().ok_or_else(|| not_paused(&GATEWAY))?;
        let resumed = self.machine.resume(paused).await;
        resumed.map_err(|source| self.fault("resumed", source))
    }

    async fn kill(&self) -> Result<(), EnvironmentError> {
        let paused = self.paused.lock().await.take();
        let mut child = self.child.lock().await;
        let mut running = child.take().ok_or_else(gateway_stopped)?;
        let killed = self.machine.kill(paused, &self.directory, &mut running, self.start_limit()).await;
        killed.map_err(|source| self.fault("killed as a whole by SIGKILL", source))
    }
}
