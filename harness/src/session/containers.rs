//! A session in containers: what it needs images for, and who removes them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::environment::container::engine::Engine;
use crate::environment::container::{self, ContainerOptions};
use crate::environment::{Servers, ServersOptions};
use crate::load::images::Images;
use crate::model::case::Case;
use crate::model::image::ImageUse;
use crate::model::server::{ServerKey, Service};
use crate::os::rundir::RunDir;

/// The environment for the cases. Whatever it makes is entrusted to the watcher of the run's directory first.
pub(super) async fn environment(
    images: Images,
    harness: &Path,
    cache_directory: PathBuf,
    servers: ServersOptions,
    directory: &mut RunDir,
    cases: &[Arc<Case>],
) -> Result<Servers, String> {
    let engine = Engine::connect().await.map_err(|error| error.to_string())?;
    let run = directory.name().ok_or("the run's directory has no name")?;
    let failed = |error| format!("the containers could not be entrusted to the watcher of the run's directory: {error}");
    directory.entrust(&run).map_err(failed)?;
    let uses = uses(cases);
    let options = ContainerOptions { servers, images, uses, harness: harness.to_path_buf(), run, cache_directory };
    container::environment(&engine, options).await.map_err(|error| error.to_string())
}

/// What the cases need images for.
fn uses(cases: &[Arc<Case>]) -> BTreeSet<ImageUse> {
    let mut uses = BTreeSet::from([ImageUse::Clients]);
    for case in cases.iter().filter(|case| case.skip.is_none()) {
        uses.insert(match case.key {
            ServerKey { service: Service::Postgres, version, .. } => ImageUse::Postgres(version.unwrap_or_default()),
            ServerKey { service: Service::Redis, .. } => ImageUse::Redis,
        });
        if case.needs_gateway() {
            uses.insert(ImageUse::Haproxy);
        }
    }
    uses
}
