//! A session in containers: what it needs images for, and who removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;

use super::error::SessionError;
use environment::container::engine::Engine;
use environment::container::{self, ContainerOptions, FoundImages};
use environment::{Servers, ServersOptions};
use load::images::Images;
use model::case::Case;
use model::image::ImageUse;
use model::server::{ServerKey, Service};
use os::rundir::RunDir;

/// The environment for the cases. Whatever it makes is entrusted to the watcher of the run's directory first. Images are no longer waited for
/// once the run is interrupted.
pub(super) async fn environment(
    images: Images,
    harness: &Path,
    cache_directory: PathBuf,
    servers: ServersOptions,
    directory: &mut RunDir,
    cases: &[Arc<Case>],
    mut interrupted: watch::Receiver<bool>,
) -> Result<Servers, SessionError> {
    let engine = Engine::connect().await?;
    let images = tokio::select! {
        found = FoundImages::look(&engine, &images, uses(cases)) => found,
        // Nothing is to be removed yet.
        Ok(_) = interrupted.wait_for(|interrupted| *interrupted) => {
            return Err(SessionError::Interrupted);
        }
    };
    let run = directory.name().ok_or(SessionError::NoName)?;
    directory.entrust(&run).map_err(SessionError::Entrust)?;
    let options = ContainerOptions { servers, images, harness: harness.to_path_buf(), run, cache_directory };
    Ok(container::environment(&engine, options).await?)
}

/// What the cases need images for, and for how many servers from the run's beginning: those of timelines come later, and take what is free.
fn uses(cases: &[Arc<Case>]) -> BTreeMap<ImageUse, usize> {
    let mut servers: BTreeMap<ImageUse, BTreeSet<ServerKey>> = BTreeMap::new();
    let mut uses = BTreeMap::from([(ImageUse::Clients, 1)]);
    for case in cases.iter().filter(|case| case.skip.is_none()) {
        let servers = servers.entry(match case.key {
            ServerKey { service: Service::Postgres, version, .. } => ImageUse::Postgres(version.unwrap_or_default()),
            ServerKey { service: Service::Redis, .. } => ImageUse::Redis,
        });
        let servers = servers.or_default();
        if case.timeline.is_none() {
            servers.insert(case.key);
        }
        if case.needs_gateway() {
            uses.insert(ImageUse::Haproxy, 1);
        }
    }
    uses.extend(servers.into_iter().map(|(image_use, servers)| (image_use, servers.len().max(1))));
    uses
}
