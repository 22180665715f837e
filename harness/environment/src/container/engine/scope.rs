//! What one run owns at the engine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::{OnceCell, RwLock};

use super::client::Engine;
use super::error::{EngineError, Misuse};
use super::removal::Leak;
use super::shared::{Shared, name_of};
use super::spec::is_name;
use super::{labels, network, removal, volume};
use model::network::NetworkName;
use os::owner::Owner;

/// What a [`Scope`] is made from.
#[derive(Clone)]
pub struct ScopeOptions {
    /// The run's id: letters, digits, `.`, `_` and `-`.
    pub run: String,
    /// The harness's own binary, which runs in every container.
    pub harness: PathBuf,
    /// The run's token: stands in every container at [`super::TOKEN_FILE`], readable for root alone.
    pub token: String,
}

// The token is secret.
impl fmt::Debug for ScopeOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ScopeOptions").field("run", &self.run).field("harness", &self.harness).finish_non_exhaustive()
    }
}

/// What one run owns: its networks, the volume with the harness's binary, and its containers. Everything carries the run's labels.
///
/// Dropping it removes nothing: [`Scope::close`] does.
#[derive(Clone)]
pub struct Scope {
    pub(super) shared: Arc<Shared>,
}

impl Scope {
    /// Makes the run's networks and the volume for the harness's binary. The first container that is started fills it.
    ///
    /// # Errors
    /// [`EngineError`]; nothing is left then.
    pub async fn open(engine: &Engine, options: ScopeOptions) -> Result<Self, EngineError> {
        let ScopeOptions { run, harness, token } = options;
        if !is_name(&run) {
            return Err(Misuse::RunName(run).into());
        }
        let owner = Owner::current().map_err(EngineError::Owner)?;
        let labels = labels::of_run(&run, &owner);
        let volume = name_of(&run, "harness");
        let made =
            tokio::try_join!(network::make_all(engine, |network| name_of(&run, network), &labels), volume::make(engine, &volume, &labels));
        let networks = match made {
            Ok((networks, ())) => networks,
            Err(error) => {
                // The error is told; what can't be removed now is found by the watcher, or by the next run.
                removal::remove_run(engine, &run).await;
                return Err(error);
            }
        };
        let shared = Shared {
            engine: engine.clone(),
            run,
            harness,
            token,
            labels,
            networks,
            volume,
            filled: OnceCell::new(),
            closed: RwLock::new(false),
            reservations: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The id that [`ScopeOptions::run`] gave, a part of all names.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.shared.run
    }

    /// The range of a network, such as `10.7.201.0/24`.
    #[must_use]
    pub fn range(&self, network: NetworkName) -> String {
        self.shared.networks.named.get(&network).map(|network| network.range.to_string()).unwrap_or_default()
    }

    /// The address of a network with this last part.
    #[must_use]
    pub fn address(&self, network: NetworkName, host: u8) -> IpAddr {
        let range = self.shared.networks.named.get(&network).map(|network| network.range);
        range.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |range| IpAddr::V4(range.address(host)))
    }

    /// Removes everything that carries the run's label, and gives what is left then. No container can be started afterwards; one that is just
    /// starting is waited for.
    pub async fn close(&self) -> Vec<Leak> {
        *self.shared.closed.write().await = true;
        removal::remove_run(&self.shared.engine, &self.shared.run).await
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the run {} at {}", self.shared.run, self.shared.engine.host())
    }
}
