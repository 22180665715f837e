//! Real servers in containers, each in one of its own, on networks of the run's own: the harness's binary runs in every container as an
//! [agent](crate::agent), which starts the server as its child, as CloudNativePG's instance manager does.

mod data;
mod dialer;
pub mod engine;
mod machine;
mod machines;
mod spares;
mod vessel;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

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
    /// What the run needs images for, and how many containers at once from its beginning. The others are not looked for.
    pub uses: BTreeMap<ImageUse, usize>,
    /// The harness's own binary, which runs in every container.
    pub harness: PathBuf,
    /// The run's id: in the labels of all that is made.
    pub run: String,
    /// Where prepared data directories are kept from run to run. Made if it is missing.
    pub cache_directory: PathBuf,
    /// Turns true when the run is to end: images are then not waited for, which may take minutes to be pulled.
    pub interrupted: watch::Receiver<bool>,
}

/// Servers in containers, without any yet: the networks are there, and the container that clients' connections come from.
///
/// # Errors
/// [`EnvironmentError::Other`] if no engine answers, if networks or the clients' container can't be made, or if the run was interrupted.
pub async fn environment(engine: &Engine, options: ContainerOptions) -> Result<Servers, EnvironmentError> {
    let ContainerOptions { servers, images, uses, harness, run, cache_directory, mut interrupted } = options;
    let failed = |error: engine::EngineError| EnvironmentError::Other(error.to_string());
    // What cannot be removed is no obstacle to this run.
    let _ = engine.sweep().await;
    let found = tokio::select! {
        found = machines::find(engine, &images, uses.keys()) => found,
        // Nothing of this run's own is made yet.
        Ok(_) = interrupted.wait_for(|interrupted| *interrupted) => {
            return Err(EnvironmentError::Other("interrupted while images were looked for or pulled".to_owned()));
        }
    };
    let token = super::servers::random_hex().map_err(|error| EnvironmentError::Other(format!("could not make a token: {error}")))?;
    let scope = Scope::open(engine, ScopeOptions { run, harness, token: token.clone() }).await.map_err(failed)?;
    let machines = ContainerMachines::start(scope.clone(), token, found, &uses, servers.run_directory.clone(), cache_directory).await;
    let made = machines.map_err(EnvironmentError::Other).and_then(|machines| Servers::on(Arc::new(machines), servers));
    if made.is_err() {
        // The error is told; what can't be removed now is found by the watcher.
        scope.close().await;
    }
    made
}
