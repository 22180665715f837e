//! What all servers of an environment have in common: how they are made, and where.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::configure::Configurator;
use super::installation::InstallationTemplate;
use super::machine::{Machine, Machines, Role};
use crate::error::EnvironmentError;
use model::connect::Password;
use model::server::ServerKey;

/// What servers are made from, on every machine.
#[derive(Clone)]
pub struct ServersOptions {
    /// The run's directory ([`RunDir`](os::rundir::RunDir)), searchable by the servers' user. Servers' files are made in it, or
    /// copies of them; whoever owns it removes them.
    pub run_directory: PathBuf,
    /// Says what the servers' files hold.
    pub configurator: Arc<dyn Configurator>,
    /// What installations are made from; `None`: there are none.
    pub template: Option<InstallationTemplate>,
    /// How long a server may take to start.
    pub start_limit: Duration,
    /// How long a server may take to reload its configuration.
    pub reload_limit: Duration,
}

impl ServersOptions {
    /// Options with the defaults: no installations, and limits far above what a busy machine needs (a start takes a tenth of a second, a
    /// reload some milliseconds).
    #[must_use]
    pub fn new(run_directory: impl Into<PathBuf>, configurator: Arc<dyn Configurator>) -> Self {
        Self {
            run_directory: run_directory.into(),
            configurator,
            template: None,
            start_limit: Duration::from_secs(30),
            reload_limit: Duration::from_secs(10),
        }
    }
}

/// What every server of the environment needs.
pub(crate) struct Shared {
    pub(super) options: ServersOptions,
    pub(super) machines: Arc<dyn Machines>,
    pub(super) password: Password,
}

impl Shared {
    /// A machine for a server, whose files are at `name` below the run's directory.
    pub(super) async fn machine(&self, key: ServerKey, name: &str) -> Result<Arc<dyn Machine>, EnvironmentError> {
        if let Some(missing) = self.machines.missing(Role::Server(key)) {
            return Err(missing.into());
        }
        self.machines.machine(Role::Server(key), name).await.map_err(|failure| failure.at_start_of(&key))
    }
}
