//! Faults: what happens to a server without its doing.

use super::super::gateway::HaproxyGateway;
use super::LocalInstallation;
use super::server::{Installed, Process};
use crate::environment::EnvironmentError;
use crate::model::change::{Change, Target};
use crate::model::outcome::SkipReason;
use crate::os::frozen::Frozen;
use crate::os::{poll, tree};

use std::path::Path;
use std::time::Duration;

/// How often it is looked whether the processes of a killed server are gone: they take milliseconds.
const INTERVAL: Duration = Duration::from_millis(1);

/// Why this environment can't make such a change; `None` if it can.
pub(in super::super) fn unable_change(change: &Change<String>) -> Option<SkipReason> {
    let (does, target) = match change {
        Change::Cut(target) => ("cut", target),
        Change::Mend(target) => ("mend", target),
        _ => return None,
    };
    let what = if *target == Target::Gateway { "a gateway's" } else { "a server's" };
    Some(SkipReason::EnvironmentUnable(format!("the local environment can't {does} {what} network: run it with --environment container")))
}

/// PostgreSQL's log collector (`postgres: logger`, with a cluster's name in between where it has one). It is left alone: it writes down what
/// others have said, reads its pipe to the end and goes by itself.
fn is_log_collector(command: &str) -> bool {
    command.starts_with("postgres: ") && command.ends_with("logger")
}

impl LocalInstallation {
    /// Makes a fault.
    pub(super) async fn fault(&self, change: &Change<String>) -> Result<(), EnvironmentError> {
        if let Some(reason) = unable_change(change) {
            return Err(EnvironmentError::Other(format!("`{change}`: {reason}")));
        }
        match change {
            Change::Pause(Target::Gateway) => self.standing_gateway()?.pause().await,
            Change::Resume(Target::Gateway) => self.standing_gateway()?.resume().await,
            Change::Kill(Target::Gateway) => self.standing_gateway()?.kill().await,
            Change::Pause(target) => pause(self.installed(*target)?.as_ref()).await,
            Change::Resume(target) => resume(self.installed(*target)?.as_ref()).await,
            Change::Kill(target) => kill(self.installed(*target)?.as_ref()).await,
            other => Err(EnvironmentError::Other(format!("`{other}` is no fault"))),
        }
    }
}

async fn pause(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let mut process = server.process().lock().await;
    let frozen = freeze(server, &mut process).await?;
    process.frozen = Some(frozen);
    Ok(())
}

async fn resume(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let frozen = server.process().lock().await.frozen.take();
    frozen.map(drop).ok_or_else(|| not_paused(&server.place().key.to_string()))
}

/// Kills it, paused or not, and returns when nothing of it is left but its files and shared memory.
async fn kill(server: &dyn Installed) -> Result<(), EnvironmentError> {
    let (place, limit) = (server.place(), server.shared().options.start_limit);
    let mut process = server.process().lock().await;
    // First all are stopped, so that none sees another's end and has time to say something.
    let frozen = match process.frozen.take() {
        Some(frozen) => frozen,
        None => freeze(server, &mut process).await?,
    };
    frozen.kill();
    if let Some(mut child) = process.child.take() {
        // A zombie would still look like a server to the next one in its directory.
        let _ = tokio::time::timeout(limit, child.wait()).await;
    }
    await_end(&place.paths.data, limit).await.map_err(|reason| EnvironmentError::Lost {
        server: place.key.to_string(),
        reason: format!("not all of it ended by SIGKILL: {reason}"),
        log: place.log.clone(),
    })
}

async fn freeze(server: &dyn Installed, process: &mut Process) -> Result<Frozen, EnvironmentError> {
    let (place, limit) = (server.place(), server.shared().options.start_limit);
    let first = server.running(process).await?.pid().unwrap_or_default();
    Frozen::freeze(&place.paths.data, first, is_log_collector, limit).await.map_err(|reason| EnvironmentError::Lost {
        server: place.key.to_string(),
        reason: format!("it could not be paused: {reason}"),
        log: place.log.clone(),
    })
}

/// Waits until nothing works in a directory any more.
async fn await_end(directory: &Path, limit: Duration) -> Result<(), poll::PollTimeout> {
    let nothing = || {
        let left = tree::processes_in(directory);
        std::future::ready(if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are there")) })
    };
    poll::until("the end of its processes", limit, INTERVAL, nothing).await
}

fn not_paused(what: &str) -> EnvironmentError {
    EnvironmentError::Other(format!("{what} is not paused: there is nothing to resume"))
}

impl HaproxyGateway {
    async fn pause(&self) -> Result<(), EnvironmentError> {
        let mut frozen = self.frozen.lock().await;
        if frozen.is_some() {
            return Err(EnvironmentError::Other("the gateway is paused already".to_owned()));
        }
        *frozen = Some(self.freeze().await?);
        Ok(())
    }

    async fn resume(&self) -> Result<(), EnvironmentError> {
        self.frozen.lock().await.take().map(drop).ok_or_else(|| not_paused("the gateway"))
    }

    async fn kill(&self) -> Result<(), EnvironmentError> {
        let frozen = match self.frozen.lock().await.take() {
            Some(frozen) => frozen,
            None => self.freeze().await?,
        };
        frozen.kill();
        let limit = self.start_limit();
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = tokio::time::timeout(limit, child.wait()).await;
        }
        let ended = await_end(&self.directory, limit).await;
        ended.map_err(|reason| EnvironmentError::Other(format!("not all of the gateway ended by SIGKILL: {reason}")))
    }

    async fn freeze(&self) -> Result<Frozen, EnvironmentError> {
        let first = self.child.lock().await.as_ref().and_then(crate::os::child::Child::pid);
        let first = first.ok_or_else(|| EnvironmentError::Other("the gateway is stopped: start it first".to_owned()))?;
        let frozen = Frozen::freeze(&self.directory, first, |_| false, self.start_limit()).await;
        frozen.map_err(|reason| EnvironmentError::Other(format!("the gateway could not be paused: {reason}")))
    }
}
