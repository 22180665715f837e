//! An installation that runs, and the changes that it can make.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::super::gateway::HaproxyGateway;
use super::super::shared::Shared;
use super::beginning::{PreparedParts, Running, prepare, start};
use super::clock::sleep_until;
use super::directory::{Directory, REMOVAL};
use super::mounted::Mounted;
use super::replication::StreamingReplication;
use super::server::Installed;
use super::site::Site;
use super::state::{Remaining, State};
use crate::error::{ChangeError, EnvironmentError, MissingPart};
use crate::{Applied, Gateway, InstallOptions, Installation, Replication, Server};
use model::change::{Change, Target};
use model::connect::ClientFiles;
use model::server::ServerKey;
use os::{shared_memory, tree};

/// An installation that runs.
pub(in super::super) struct RunningInstallation {
    key: ServerKey,
    state: Mutex<State>,
    servers: BTreeMap<Target, Arc<dyn Installed>>,
    replication: Option<Arc<StreamingReplication>>,
    gateway: Option<Arc<HaproxyGateway>>,
    mounts: Mutex<BTreeMap<Target, Mounted>>,
    site: Option<Site>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    // Dropped last: it removes what all others are in.
    directory: Directory,
}

impl RunningInstallation {
    /// Makes one, its server running.
    pub(in super::super) async fn make(shared: &Arc<Shared>, options: &InstallOptions) -> Result<Self, EnvironmentError> {
        let key = options.key;
        let PreparedParts { state, mounts, site, directory, with } =
            prepare(shared, options).await.map_err(|source| EnvironmentError::Install { key, source })?;
        let Running { servers, replication, gateway } = match start(shared, key, with, &directory, &state).await {
            Ok(running) => running,
            Err(error) => {
                directory.leave_logs();
                return Err(error);
            }
        };
        Ok(Self {
            key,
            state: Mutex::new(state),
            servers,
            replication,
            gateway,
            mounts: Mutex::new(mounts),
            site,
            turn: tokio::sync::Mutex::new(()),
            directory,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is complete or has changed nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mounts(&self) -> MutexGuard<'_, BTreeMap<Target, Mounted>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server behind a target; an error that names those that there are.
    pub(super) fn installed(&self, target: Target) -> Result<&Arc<dyn Installed>, EnvironmentError> {
        self.servers.get(&target).ok_or_else(|| {
            let known: Vec<&str> = self.servers.keys().map(|target| target.name()).collect();
            MissingPart::Server { key: self.key, target, known: known.join(", ") }.into()
        })
    }

    fn site(&self) -> Result<&Site, EnvironmentError> {
        Ok(self.site.as_ref().ok_or(MissingPart::Site(self.key))?)
    }

    async fn write_configuration(&self, change: &Change<String>) -> Result<(), EnvironmentError> {
        for server in self.servers.values() {
            let files = self.state().configuration(server.paths()).map_err(|error| not_done(change, error))?;
            server.write_configuration(files).await?;
        }
        Ok(())
    }

    async fn sync(&self, target: Target) -> Result<(), EnvironmentError> {
        if let Some(mounted) = self.mounts().get_mut(&target) {
            return mounted.sync(&self.state(), self.site.as_ref()).map_err(|error| not_done(&Change::Sync(target), error));
        }
        let server = self.installed(target)?;
        let files = self.state().certificates(target, server.paths()).map_err(|error| not_done(&Change::Sync(target), error))?;
        server.write_certificates(files).await
    }

    async fn reconcile(&self) -> Result<Applied, EnvironmentError> {
        let due = self.state().look().map_err(|error| not_done(&Change::Reconcile, error))?;
        let mut applied = Applied::default();
        if due {
            for (target, server) in &self.servers {
                self.sync(*target).await?;
                // The operator waits for a server that is down.
                if server.is_up().await {
                    applied.objection = applied.objection.or(server.reload().await?.objection);
                }
            }
        }
        Ok(applied)
    }

    pub(super) fn own_gateway(&self) -> Result<&Arc<HaproxyGateway>, EnvironmentError> {
        Ok(self.gateway.as_ref().ok_or(MissingPart::Gateway(self.key))?)
    }

    /// A change of the gateway, which has no files that change.
    async fn change_gateway(&self, change: &Change<String>) -> Result<Applied, EnvironmentError> {
        let gateway = self.own_gateway()?;
        match change {
            Change::Stop(_) => gateway.stop().await,
            Change::Start(_) => gateway.start_again().await?,
            Change::Restart(_) => {
                gateway.stop().await;
                gateway.start_again().await?;
            }
            other => return Err(EnvironmentError::NotForGateways(other.to_string())),
        }
        Ok(Applied::default())
    }

    async fn disconnect(&self, target: Target) -> Result<(), EnvironmentError> {
        match (target, &self.replication) {
            (Target::Replica, Some(replication)) => replication.disconnect().await,
            _ => self.installed(target)?.disconnect().await,
        }
    }

    async fn restart(&self, target: Target) -> Result<Applied, EnvironmentError> {
        let server = self.installed(target)?;
        if server.is_up().await {
            server.stop().await?;
        }
        server.start().await
    }
}

fn not_done(change: &Change<String>, source: impl Into<ChangeError>) -> EnvironmentError {
    EnvironmentError::Change { change: change.to_string(), source: source.into() }
}

#[async_trait]
impl Installation for RunningInstallation {
    fn server(&self, target: Target) -> Option<Arc<dyn Server>> {
        let server = Arc::clone(self.servers.get(&target)?);
        Some(server)
    }

    fn gateway(&self) -> Option<Arc<dyn Gateway>> {
        Some(Arc::clone(self.gateway.as_ref()?) as Arc<dyn Gateway>)
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        Some(Arc::clone(self.replication.as_ref()?) as Arc<dyn Replication>)
    }

    fn mount(&self, target: Target) -> Option<ClientFiles> {
        self.mounts().get(&target).map(|mounted| mounted.mount.files())
    }

    fn certificate_sha256(&self, certificate: &str) -> Option<String> {
        self.state().cert_manager.sha256(certificate).ok()
    }

    async fn apply(&self, change: &Change<String>) -> Result<Applied, EnvironmentError> {
        let _turn = self.turn.lock().await;
        let made = self.state().make(change);
        if let Some(made) = made {
            match made.map_err(|error| not_done(change, error))? {
                Remaining::Nothing => {}
                Remaining::Configuration => self.write_configuration(change).await?,
                Remaining::Until(end) => sleep_until(end).await,
            }
            return Ok(Applied::default());
        }
        let done = |()| Applied::default();
        match change {
            Change::Reload(Target::Gateway)
            | Change::Restart(Target::Gateway)
            | Change::Stop(Target::Gateway)
            | Change::Start(Target::Gateway) => self.change_gateway(change).await,
            Change::Reconcile => self.reconcile().await,
            Change::Sync(target) => self.sync(*target).await.map(done),
            Change::Reload(target) => self.installed(*target)?.reload().await,
            Change::Restart(target) => self.restart(*target).await,
            Change::Stop(target) => self.installed(*target)?.stop().await.map(done),
            Change::Start(target) => self.installed(*target)?.start().await,
            Change::Disconnect(target) => self.disconnect(*target).await.map(done),
            Change::Pause(_) | Change::Resume(_) | Change::Kill(_) | Change::Cut(_) | Change::Mend(_) => self.fault(change).await.map(done),
            Change::Push => self.site()?.push(&self.state()).map_err(|error| not_done(change, error)).map(done),
            Change::Refresh => Ok(self.site()?.refresh().await),
            other => Err(EnvironmentError::NoChange(other.to_string())),
        }
    }

    async fn close(&self) {
        let _turn = self.turn.lock().await;
        if let Some(gateway) = &self.gateway {
            gateway.close().await;
        }
        for server in self.servers.values() {
            server.end().await;
        }
        let directory = self.directory.0.clone();
        // Whatever can't be removed now is tried again when this is dropped.
        let remove = move || {
            shared_memory::release_below(&directory);
            tree::remove(&directory, REMOVAL)
        };
        let _ = tokio::task::spawn_blocking(remove).await;
    }
}

impl Drop for RunningInstallation {
    fn drop(&mut self) {
        // Others may still hold a server; what it runs ends here.
        for server in self.servers.values() {
            server.abandon();
        }
        if let Some(gateway) = &self.gateway {
            gateway.abandon();
        }
    }
}
