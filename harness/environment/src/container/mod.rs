//! Real servers in containers, each in one of its own, on networks of the run's own: the harness's binary runs in every container as an
//! [agent](agent), which starts the server as its child, as CloudNativePG's instance manager does.

mod agent_container;
mod data;
mod dialer;
pub mod engine;
mod machine;
mod machines;
mod pool;
mod purpose;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use self::engine::{Engine, Scope, ScopeOptions};
use self::machines::ContainerMachines;
use super::EnvironmentError;
use super::servers::{Servers, ServersOptions};
use load::images::Images;
use model::image::ImageUse;

/// The images that a run needs, looked for.
#[derive(Debug, Clone)]
pub struct FoundImages {
    found: machines::ImagesByUse,
    /// How many containers at once from the run's beginning.
    counts: BTreeMap<ImageUse, usize>,
}

impl FoundImages {
    /// Looks for an image for each use, and pulls what is not there, which may take minutes. Each use has with it how many containers there
    /// will be at once from the run's beginning. An image that can't be had is told of by whoever needs it.
    pub async fn look(engine: &Engine, images: &Images, uses: BTreeMap<ImageUse, usize>) -> Self {
        Self { found: machines::find(engine, images, uses.keys()).await, counts: uses }
    }
}

/// What the container environment is made from.
#[derive(Clone)]
pub struct ContainerOptions {
    /// What servers are made from.
    pub servers: ServersOptions,
    /// The images. Of others there are no containers.
    pub images: FoundImages,
    /// The harness's own binary, which runs in every container.
    pub harness: PathBuf,
    /// The run's id: in the labels of all that is made.
    pub run: String,
    /// Where prepared data directories are kept from run to run. Made if it is missing.
    pub cache_directory: PathBuf,
}

/// Servers in containers, without any yet: the networks are there, and the container that clients' connections come from.
///
/// # Errors
/// [`EnvironmentError`] if networks or the clients' container can't be made.
pub async fn environment(engine: &Engine, options: ContainerOptions) -> Result<Servers, EnvironmentError> {
    let ContainerOptions { servers, images: FoundImages { found, counts }, harness, run, cache_directory } = options;
    let failed = |error: engine::EngineError| EnvironmentError::Engine(Arc::new(error));
    // What cannot be removed is no obstacle to this run.
    let _ = engine.sweep().await;
    let token =
        super::servers::random::random_hex().map_err(|error| EnvironmentError::Random { what: "token", source: Arc::new(error) })?;
    let scope = Scope::open(engine, ScopeOptions { run, harness, token: token.clone() }).await.map_err(failed)?;
    let machines = ContainerMachines::start(scope.clone(), token, found, &counts, servers.run_directory.clone(), cache_directory).await;
    let made = machines.and_then(|machines| Servers::on(Arc::new(machines), servers));
    if made.is_err() {
        // The error is told; what can't be removed now is found by the watcher.
        scope.close().await;
    }
    made
}
