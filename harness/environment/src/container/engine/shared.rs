//! What the containers of one run have in common at the engine.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{OnceCell, RwLock};

use super::client::Engine;
use super::error::{EngineError, Misuse};
use super::network::{Addresses, Network, RunNetworks};
use model::network::NetworkName;

/// What the run's containers share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) run: String,
    pub(super) harness: PathBuf,
    pub(super) token: String,
    pub(super) labels: HashMap<String, String>,
    pub(super) networks: RunNetworks,
    pub(super) volume: String,
    pub(super) filled: OnceCell<()>,
    /// Whether the scope is closed. Starts hold it for reading, so that the end waits for them.
    pub(super) closed: RwLock<bool>,
    pub(super) reservations: Mutex<Reservations>,
}

/// Names and addresses in use.
#[derive(Debug, Default)]
pub(super) struct Reservations {
    pub(super) names: BTreeSet<String>,
    pub(super) addresses: BTreeMap<NetworkName, Addresses>,
}

impl Shared {
    /// The engine's name for something of this run.
    pub(super) fn name_of(&self, name: &str) -> String {
        name_of(&self.run, name)
    }

    pub(super) fn reservations(&self) -> MutexGuard<'_, Reservations> {
        self.reservations.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network's engine name and range. All are there from the start.
    pub(super) fn network(&self, network: NetworkName) -> Result<&Network, EngineError> {
        self.networks.named.get(&network).ok_or_else(|| Misuse::NoNetwork(network).into())
    }
}

/// The engine's name for something of a run.
pub(super) fn name_of(run: &str, name: &str) -> String {
    format!("mtls-conformance-{run}-{name}")
}
