//! Real servers in containers, each in one of its own, on networks of the run's own: the harness's binary runs in every container as an
//! [agent](crate::agent), which starts the server as its child, as CloudNativePG's instance manager does.

mod data;
mod dialer;
pub mod engine;
mod machine;
mod machines;
mod spares;
mod vessel;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use self::engine::{Engine, Scope, ScopeOptions};
use self::machines::ContainerMachines;
use super::EnvironmentError;
use super::servers::{Servers, ServersOptions};
use crate::load::images::Images;
use crate::model::image::ImageUse;

/// What the container environment is made from.
#[derive(Clone)]
pub struct ContainerOptions {
    /// What servers are made from.
    pub servers: ServersOptions,
    /// The images that may serve.
    pub images: Images,
    /// What the run needs images for. The others are not looked for.
    pub uses: BTreeSet<ImageUse>,
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
/// [`EnvironmentError::Other`] if no engine answers, or if networks or the clients' container can't be made.
pub async fn environment(engine: &Engine, options: ContainerOptions) -> Result<Servers, EnvironmentError> {
    let ContainerOptions { servers, images, uses, harness, run, cache_directory } = options;
    let failed = |error: engine::EngineError| EnvironmentError::Other(error.to_string());
    // What cannot be removed is no obstacle to this run.
    let _ = engine.sweep().await;
    let found = machines::find(engine, &images, &uses).await;
    let token = super::servers::random_hex().map_err(|error| EnvironmentError::Other(format!("could not make a token: {error}")))?;
    let scope = Scope::open(engine, ScopeOptions { run, harness, token: token.clone() }).await.map_err(failed)?;
    let machines = ContainerMachines::start(scope.clone(), token, found, servers.run_directory.clone(), cache_directory).await;
    let made = machines.map_err(EnvironmentError::Other).and_then(|machines| Servers::on(Arc::new(machines), servers));
    if made.is_err() {
        // The error is told; what can't be removed now is found by the watcher.
        scope.close().await;
    }
    made
}
