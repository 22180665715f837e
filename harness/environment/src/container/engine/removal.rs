//! Removing what carries our labels, and telling what could not be removed.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::client::Engine;
use super::error::EngineError;
use super::labels::{self, RUN};
use super::limits;
use os::owner::Owner;

/// What a run owns at the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Removed with its anonymous volumes, and before what it uses.
    Container,
    /// Can be removed once no container is on it.
    Network,
    /// The one with the harness's binary.
    Volume,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
        })
    }
}

/// Something of a run's that is still there at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// What it is; `None` if the engine does not tell what is left.
    pub kind: Option<Kind>,
    /// Its name, or the engine's place.
    pub name: String,
    /// What was tried, and what came of it.
    pub tried: String,
}

impl fmt::Display for Leak {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, tried } = self;
        match kind {
            None => write!(formatter, "the Docker engine at {name} does not tell what is left of the run: {tried}"),
            Some(kind) => {
                let options = if *kind == Kind::Container { " -f" } else { "" };
                write!(formatter, "the {kind} {name} is left of the run: {tried}; remove it with `docker {kind} rm{options} {name}`")
            }
        }
    }
}

/// What a sweep has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Names of what was removed.
    pub removed: Vec<String>,
    /// What could not be.
    pub left: Vec<Leak>,
}

/// Something that carries our labels.
#[derive(Debug, Clone)]
struct Owned {
    kind: Kind,
    name: String,
    labels: HashMap<String, String>,
}

impl Owned {
    fn key(&self) -> (Kind, String) {
        (self.kind, self.name.clone())
    }
}

impl Engine {
    /// Removes what earlier runs of this machine have left whose process is gone: for the case that both a harness and its watcher were
    /// killed. What belongs to a run that lives, or that may live on another machine, stays.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not tell what is there.
    pub async fn sweep(&self) -> Result<Swept, EngineError> {
        let viewer = Owner::current().map_err(EngineError::Owner)?;
        let orphaned = |owned: &Owned| labels::owner(&owned.labels).is_some_and(|owner| owner.is_gone(&viewer));
        let found = list(self, RUN).await?.into_iter().filter(|owned| orphaned(owned)).map(|owned| owned.name).collect::<Vec<_>>();
        if found.is_empty() {
            return Ok(Swept::default());
        }
        let left = remove_all(self, RUN, orphaned, limits::REMOVAL).await;
        let removed = found.into_iter().filter(|name| !left.iter().any(|leak| leak.name == *name)).collect();
        Ok(Swept { removed, left })
    }
}

/// Removes everything of a run, and gives what is left.
pub(super) async fn remove_run(engine: &Engine, run: &str) -> Vec<Leak> {
    remove_all(engine, &filter(run), |_| true, limits::REMOVAL).await
}

fn filter(run: &str) -> String {
    format!("{RUN}={run}")
}

/// The watcher's part: removes everything of a run whose harness is gone. Waits for an engine that does not answer, and believes that
/// nothing is left only when nothing came for a while; gives up after half a minute, and leaves the rest to the next run's sweep.
///
/// Blocks; makes a runtime of its own.
pub fn reap(run: &str) {
    // Nobody is left to be told of an error.
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    // The limit needs the runtime as much as what it limits.
    let _ = runtime.block_on(async { tokio::time::timeout(limits::REAP, reap_with_patience(run)).await });
}

async fn reap_with_patience(run: &str) {
    let mut quiet_since = None;
    loop {
        let nothing = match Engine::connect().await {
            Err(_) => false,
            Ok(engine) => {
                matches!(list(&engine, &filter(run)).await, Ok(found) if found.is_empty()) || {
                    remove_run(&engine, run).await;
                    false
                }
            }
        };
        quiet_since = nothing.then(|| quiet_since.unwrap_or_else(Instant::now));
        if quiet_since.is_some_and(|since| since.elapsed() >= limits::QUIET) {
            return;
        }
        tokio::time::sleep(limits::INTERVAL).await;
    }
}

/// Removes everything with this label that `ours` holds for: containers first, then what they used. Tries again for `patience`; gives what
/// is left then.
async fn remove_all(engine: &Engine, label: &str, ours: impl Fn(&Owned) -> bool, patience: Duration) -> Vec<Leak> {
    let start = Instant::now();
    let mut said: BTreeMap<(Kind, String), String> = BTreeMap::new();
    let mut rounds = 0;
    loop {
        let mut left = match list(engine, label).await {
            Ok(found) => found,
            Err(error) => return vec![Leak { kind: None, name: engine.host().to_owned(), tried: error.to_string() }],
        };
        left.retain(&ours);
        if left.is_empty() {
            return Vec::new();
        }
        if rounds > 0 && start.elapsed() >= patience {
            return left.iter().map(|owned| leak(owned, rounds, said.get(&owned.key()))).collect();
        }
        rounds += 1;
        let (containers, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|owned| owned.kind == Kind::Container);
        for part in [containers, others] {
            let results = join_all(part.iter().map(|owned| remove(engine, owned))).await;
            for (owned, result) in part.iter().zip(results) {
                let words = result.map_or_else(|error| error.to_string(), |()| "the engine said that it is removed".to_owned());
                said.insert(owned.key(), words);
            }
        }
        if rounds > 1 {
            // The engine has no event for "no longer in use".
            tokio::time::sleep(limits::INTERVAL).await;
        }
    }
}

fn leak(owned: &Owned, rounds: u32, said: Option<&String>) -> Leak {
    let said = said.map_or("it came only now", String::as_str);
    Leak { kind: Some(owned.kind), name: owned.name.clone(), tried: format!("its removal was tried {rounds} times: {said}") }
}

async fn remove(engine: &Engine, owned: &Owned) -> Result<(), EngineError> {
    match owned.kind {
        Kind::Container => remove_container(engine, &owned.name).await,
        Kind::Network => {
            let what = || format!("remove the network {}", owned.name);
            missing_is_fine(engine.ask(limits::REMOVE, what, engine.docker().remove_network(&owned.name)).await)
        }
        Kind::Volume => {
            let what = || format!("remove the volume {}", owned.name);
            let options = RemoveVolumeOptionsBuilder::new().force(false).build();
            missing_is_fine(engine.ask(limits::REMOVE, what, engine.docker().remove_volume(&owned.name, Some(options))).await)
        }
    }
}

/// Kills and removes a container, with its anonymous volumes. One that is not there is fine.
pub(super) async fn remove_container(engine: &Engine, name: &str) -> Result<(), EngineError> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    let what = || format!("remove the container {name}");
    missing_is_fine(engine.ask(limits::REMOVE, what, engine.docker().remove_container(name, Some(options))).await)
}

fn missing_is_fine(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        result => result,
    }
}

/// Everything with this label: `name`, or `name=value`.
async fn list(engine: &Engine, label: &str) -> Result<Vec<Owned>, EngineError> {
    let filters = HashMap::from([("label", vec![label])]);
    let docker = engine.docker();
    let containers = docker.list_containers(Some(ListContainersOptionsBuilder::new().all(true).filters(&filters).build()));
    let networks = docker.list_networks(Some(ListNetworksOptionsBuilder::new().filters(&filters).build()));
    let volumes = docker.list_volumes(Some(ListVolumesOptionsBuilder::new().filters(&filters).build()));
    let (containers, networks, volumes) = tokio::try_join!(
        engine.ask(limits::LOOK, || "list its containers".to_owned(), containers),
        engine.ask(limits::LOOK, || "list its networks".to_owned(), networks),
        engine.ask(limits::LOOK, || "list its volumes".to_owned(), volumes),
    )?;
    let owned = |kind, name: Option<String>, labels: Option<HashMap<String, String>>| {
        Some(Owned { kind, name: name?.trim_start_matches('/').to_owned(), labels: labels.unwrap_or_default() })
    };
    let containers = containers.into_iter().filter_map(|container| {
        let name = container.names.into_iter().flatten().next().or(container.id);
        owned(Kind::Container, name, container.labels)
    });
    let networks = networks.into_iter().filter_map(|network| owned(Kind::Network, network.name, network.labels));
    let volumes = volumes.volumes.into_iter().flatten().filter_map(|volume| owned(Kind::Volume, Some(volume.name), Some(volume.labels)));
    Ok(containers.chain(networks).chain(volumes).collect())
}
