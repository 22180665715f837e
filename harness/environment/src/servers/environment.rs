//! The environment itself: which servers there are, each started at its first use.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::gateway::{self, Gateways};
use super::installation::RunningInstallation;
use super::instance::Instance;
use super::machine::{Machines, Role};
use super::postgres::PostgresServer;
use super::random::random_hex;
use super::redis::RedisServer;
use super::shared::{ServersOptions, Shared};
use super::trial;
use crate::error::EnvironmentError;
use crate::{Environment, Gateway, InstallOptions, Installation, Server};
use agent::ClientContainer;
use model::change::Change;
use model::claim::Subject;
use model::connect::Password;
use model::network::Networks;
use model::outcome::SkipReason;
use model::report::Component;
use model::server::{ServerConfig, ServerKey, Service};
use os::{shared_memory, tree};

/// Servers on machines. Must be used inside one tokio runtime. Dropping it stops the servers, in order if slowly;
/// [`Environment::close`] is faster.
pub struct Servers {
    shared: Arc<Shared>,
    slots: Mutex<Slots>,
    gateways: Gateways,
}

#[derive(Default)]
struct Slots {
    closed: bool,
    by_key: BTreeMap<ServerKey, Slot>,
    /// Those that were made; whoever asked for one holds it.
    installations: Vec<Weak<RunningInstallation>>,
}

type Started = Result<Arc<dyn Instance>, EnvironmentError>;

/// A server that is being started, is there, or did not come up. Its start is a task of its own: a case that gives up waiting doesn't end it.
struct Slot {
    state: watch::Receiver<Option<Started>>,
    task: JoinHandle<()>,
}

impl Slot {
    /// Stops the server, or its start; whether there was one.
    async fn stop(self) -> bool {
        // A start that is under way is broken off; its child is stopped as it is dropped.
        self.task.abort();
        let _ = self.task.await;
        let started = self.state.borrow().clone();
        let Some(Ok(server)) = started else { return false };
        server.stop().await;
        true
    }
}

/// How long the removal of a server's directory is tried.
const REMOVAL: Duration = Duration::from_secs(2);

impl Servers {
    /// An environment without any server yet.
    ///
    /// # Errors
    /// [`EnvironmentError::Random`] where the system gives no randomness for the password.
    pub(crate) fn on(machines: Arc<dyn Machines>, options: ServersOptions) -> Result<Self, EnvironmentError> {
        let password = random_password().map_err(|error| EnvironmentError::Random { what: "password", source: Arc::new(error) })?;
        Ok(Self { shared: Arc::new(Shared { options, machines, password }), slots: Mutex::default(), gateways: Gateways::default() })
    }

    /// What must appear in no report: the run's password.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        vec![self.shared.password.reveal().to_owned()]
    }

    /// Who the servers run as, for a report.
    #[must_use]
    pub fn servers_run_as(&self) -> String {
        self.shared.machines.servers_run_as()
    }

    /// Where clients can run beside this machine: the container that clients' connections come from. `None` where there is none.
    #[must_use]
    pub fn client_container(&self) -> Option<Arc<ClientContainer>> {
        self.shared.machines.client_container()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server of that key.
    async fn instance(&self, key: ServerKey) -> Result<Arc<dyn Instance>, EnvironmentError> {
        let mut state = self.state(key)?;
        let started = match state.wait_for(Option::is_some).await {
            Ok(started) => started.clone(),
            // The task ended without a word: the environment was closed meanwhile, or it panicked.
            Err(_) => None,
        };
        let server = started.unwrap_or(Err(EnvironmentError::BrokenOff(key)))?;
        match server.lost().await {
            Some(lost) => Err(lost),
            None => Ok(server),
        }
    }

    /// The state of this key's server, which begins to start if it has not yet.
    fn state(&self, key: ServerKey) -> Result<watch::Receiver<Option<Started>>, EnvironmentError> {
        let mut slots = self.slots();
        if slots.closed {
            return Err(EnvironmentError::Closed(key));
        }
        let slot = slots.by_key.entry(key).or_insert_with(|| {
            let (sender, state) = watch::channel(None);
            let shared = Arc::clone(&self.shared);
            let task = tokio::spawn(async move {
                let started = start(&shared, key).await;
                sender.send_replace(Some(started));
            });
            Slot { state, task }
        });
        Ok(slot.state.clone())
    }
}

/// Removes what a server of this name has written. What can't be removed now goes with the run's directory.
pub(super) async fn remove_files(shared: &Shared, name: &str) {
    let directory = shared.options.run_directory.join(name);
    let _ = tokio::task::spawn_blocking(move || {
        shared_memory::release_below(&directory);
        tree::remove(&directory, REMOVAL)
    })
    .await;
}

async fn start(shared: &Arc<Shared>, key: ServerKey) -> Started {
    match key.service {
        Service::Postgres => Ok(Arc::new(PostgresServer::start(Arc::clone(shared), key).await?)),
        Service::Redis => Ok(Arc::new(RedisServer::start(Arc::clone(shared), key).await?)),
    }
}

#[async_trait]
impl Environment for Servers {
    fn name(&self) -> &'static str {
        self.shared.machines.name()
    }

    fn real_subjects(&self) -> &'static [Subject] {
        self.shared.machines.real_subjects()
    }

    fn networks(&self) -> Networks {
        self.shared.machines.networks()
    }

    fn components(&self) -> Vec<Component> {
        self.shared.machines.components()
    }

    fn unable(&self, key: ServerKey) -> Option<SkipReason> {
        if key.service == Service::Postgres && key.version.is_none() {
            return Some(SkipReason::EnvironmentUnable(format!("{key} names no version of PostgreSQL")));
        }
        self.shared.machines.missing(Role::Server(key)).map(|missing| SkipReason::ServerMissing(missing.to_string()))
    }

    async fn server(&self, key: ServerKey) -> Result<Arc<dyn Server>, EnvironmentError> {
        Ok(self.instance(key).await?)
    }

    async fn release(&self, key: ServerKey) {
        let slot = self.slots().by_key.remove(&key);
        if let Some(slot) = slot
            && slot.stop().await
        {
            remove_files(&self.shared, &key.to_string()).await;
        }
    }

    async fn objection(&self, key: ServerKey, config: &ServerConfig) -> Result<Option<String>, EnvironmentError> {
        if self.slots().closed {
            return Err(EnvironmentError::Closed(key));
        }
        trial::objection(&self.shared, key, config).await
    }

    async fn install(&self, options: &InstallOptions) -> Result<Arc<dyn Installation>, EnvironmentError> {
        if self.slots().closed {
            return Err(EnvironmentError::Closed(options.key));
        }
        let installation = Arc::new(RunningInstallation::make(&self.shared, options).await?);
        let mut slots = self.slots();
        if slots.closed {
            return Err(EnvironmentError::Closed(options.key));
        }
        slots.installations.retain(|known| known.strong_count() > 0);
        slots.installations.push(Arc::downgrade(&installation));
        Ok(installation)
    }

    fn unable_gateway(&self, key: ServerKey) -> Option<SkipReason> {
        gateway::unable(&self.shared, key)
    }

    fn unable_change(&self, change: &Change<String>) -> Option<SkipReason> {
        self.shared.machines.unable_change(change)
    }

    async fn gateway(&self, key: ServerKey) -> Result<Arc<dyn Gateway>, EnvironmentError> {
        let address = self.instance(key).await?.place().address_for_gateway();
        Ok(self.gateways.of(&self.shared, key, address).await?)
    }

    async fn close(&self) -> Vec<String> {
        self.gateways.stop().await;
        let (slots, installations) = {
            let mut slots = self.slots();
            slots.closed = true;
            (std::mem::take(&mut slots.by_key), std::mem::take(&mut slots.installations))
        };
        let mut stops = JoinSet::new();
        for installation in installations.iter().filter_map(Weak::upgrade) {
            stops.spawn(async move { installation.close().await });
        }
        for slot in slots.into_values() {
            stops.spawn(async move {
                slot.stop().await;
            });
        }
        while stops.join_next().await.is_some() {}
        self.shared.machines.close().await
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The servers' children stop as the last references to the servers go.
        for slot in self.slots().by_key.values() {
            slot.task.abort();
        }
    }
}

fn random_password() -> std::io::Result<Password> {
    random_hex().map(Password::new)
}
