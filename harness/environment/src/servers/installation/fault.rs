//! Faults: what happens to a server without its doing.

use super::super::gateway::HaproxyGateway;
use super::RunningInstallation;
use super::server::Installed;
use crate::EnvironmentError;
use model::change::{Change, Target};

impl RunningInstallation {
    /// Makes a fault.
    pub(super) async fn fault(&self, change: &Change<String>) -> Result<(), EnvironmentError> {
        match change {
            Change::Pause(Target::Gateway) => self.own_gateway()?.pause().await,
            Change::Resume(Target::Gateway) => self.own_gateway()?.resume().await,
            Change::Kill(Target::Gateway) => self.own_gateway()?.kill().await,
            Change::Cut(Target::Gateway) => self.own_gateway()?.machine.cut().await.map_err(EnvironmentError::Other),
            Change::Mend(Target::Gateway) => self.own_gateway()?.machine.mend().await.map_err(EnvironmentError::Other),
            Change::Pause(target) => pause(self.installed(*target)?.as_ref()).await,
            Change::Resume(target) => resume(self.installed(*target)?.as_ref()).await,
            Change::Kill(target) => kill(self.installed(*target)?.as_ref()).await,
            Change::Cut(target) => self.installed(*target)?.place().machine.cut().await.map_err(EnvironmentError::Other),
            Change::Mend(target) => self.installed(*target)?.place().machine.mend().await.map_err(EnvironmentError::Other),
            other => Err(EnvironmentError::Other(format!("`{other}` is no fault"))),
        }
    }
}

async fn pause(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let (place, limit) = (server.place(), server.shared().options.start_limit);
    let mut process = server.process().lock().await;
    let first = server.running(&mut process).await?.pid().unwrap_or_default();
    let paused = place.machine.pause(&place.paths.data, first, limit).await;
    process.paused = Some(paused.map_err(|reason| lost(server, &format!("it could not be paused: {reason}")))?);
    Ok(())
}

async fn resume(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let mut process = server.process().lock().await;
    let paused = process.paused.take().ok_or_else(|| not_paused(&server.place().key.to_string()))?;
    let resumed = server.place().machine.resume(paused).await;
    resumed.map_err(|reason| lost(server, &format!("it could not be resumed: {reason}")))
}

/// Kills it, paused or not, and returns when nothing of it is left but its files and shared memory.
async fn kill(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let (place, limit) = (server.place(), server.shared().options.start_limit);
    let mut process = server.process().lock().await;
    let paused = process.paused.take();
    let child = server.running(&mut process).await?;
    let killed = place.machine.kill(paused, &place.paths.data, child, limit).await;
    process.child = None;
    killed.map_err(|reason| lost(server, &format!("not all of it ended by SIGKILL: {reason}")))
}

fn lost(server: &dyn Installed, reason: &str) -> EnvironmentError {
    let place = server.place();
    EnvironmentError::Lost { server: place.key.to_string(), reason: reason.to_owned(), log: place.log.clone() }
}

fn not_paused(what: &str) -> EnvironmentError {
    EnvironmentError::Other(format!("{what} is not paused: there is nothing to resume"))
}

impl HaproxyGateway {
    async fn pause(&self) -> Result<(), EnvironmentError> {
        let mut paused = self.paused.lock().await;
        if paused.is_some() {
            return Err(EnvironmentError::Other("the gateway is paused already".to_owned()));
        }
        let first = self.child.lock().await.as_ref().and_then(super::super::Process::pid);
        let first = first.ok_or_else(|| EnvironmentError::Other("the gateway is stopped: start it first".to_owned()))?;
        let frozen = self.machine.pause(&self.directory, first, self.start_limit()).await;
        *paused = Some(frozen.map_err(|reason| EnvironmentError::Other(format!("the gateway could not be paused: {reason}")))?);
        Ok(())
    }

    async fn resume(&self) -> Result<(), EnvironmentError> {
        let paused = self.paused.lock().await.take().ok_or_else(|| not_paused("the gateway"))?;
        let resumed = self.machine.resume(paused).await;
        resumed.map_err(|reason| EnvironmentError::Other(format!("the gateway could not be resumed: {reason}")))
    }

    async fn kill(&self) -> Result<(), EnvironmentError> {
        let paused = self.paused.lock().await.take();
        let mut child = self.child.lock().await;
        let mut running = child.take().ok_or_else(|| EnvironmentError::Other("the gateway is stopped: start it first".to_owned()))?;
        let killed = self.machine.kill(paused, &self.directory, &mut running, self.start_limit()).await;
        killed.map_err(|reason| EnvironmentError::Other(format!("not all of the gateway ended by SIGKILL: {reason}")))
    }
}
