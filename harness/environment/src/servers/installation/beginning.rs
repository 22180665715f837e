//! How an installation begins: its set-up, and the start of its servers.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::super::configure::Paths;
use super::super::gateway::{Backend, HaproxyGateway};
use super::super::shared::Shared;
use super::clock::sleep_until;
use super::directory::{Directory, next_name};
use super::mounted::{Mountable, Mounted};
use super::postgres::{Follows, InstalledPostgres};
use super::redis::InstalledRedis;
use super::replication::StreamingReplication;
use super::server::{Files, Installed};
use super::site::Site;
use super::state::{Remaining, State};
use crate::error::{ChangeError, EnvironmentError, InstallError};
use crate::{InstallOptions, Server as _};
use model::change::{Change, Target};
use model::server::{ServerKey, Service};
use os::tree;

/// Makes a change before anything runs.
async fn set_up(state: &mut State, change: &Change<String>) -> Result<(), ChangeError> {
    match state.make(change) {
        Some(made) => {
            if let Remaining::Until(end) = made? {
                sleep_until(end).await;
            }
            Ok(())
        }
        // All files are written afterwards.
        None if matches!(change, Change::Sync(_)) => Ok(()),
        None => Err(ChangeError::NothingRuns),
    }
}

/// What an installation has before anything of it runs.
pub(super) struct PreparedParts {
    pub(super) state: State,
    pub(super) mounts: BTreeMap<Target, Mounted>,
    pub(super) site: Option<Site>,
    pub(super) directory: Directory,
    pub(super) with: OptionalParts,
}

/// Issues everything, makes the changes of the set-up, and fills what clients mount.
pub(super) async fn prepare(shared: &Shared, options: &InstallOptions) -> Result<PreparedParts, InstallError> {
    let key = options.key;
    let template = shared.options.template.as_ref().ok_or(InstallError::NoManifests)?;
    let mut with = OptionalParts::default();
    for target in &options.with {
        match target {
            Target::Replica if key.service == Service::Postgres => with.replica = true,
            Target::Gateway => with.gateway = true,
            Target::Site => with.site = true,
            other => return Err(InstallError::NoPart(*other)),
        }
    }
    let mut state = State::new(&template.manifests, key, options.config.clone())?;
    let limit = options.setup_limit;
    let deadline = Instant::now() + limit;
    for change in &options.setup {
        let made = timeout_at(deadline, set_up(&mut state, change)).await;
        let made = made.map_err(|_| InstallError::SetUpLimit { change: change.to_string(), limit })?;
        made.map_err(|source| InstallError::SetUp { change: change.to_string(), source })?;
    }
    if key.service == Service::Postgres {
        // What is there at the start is no news to the operator.
        state.look()?;
    }
    let directory = Directory(shared.options.run_directory.join(next_name()));
    tree::make_directory(&directory.0, 0o755, None).map_err(InstallError::directory(directory.0.clone()))?;
    let mut mounts = BTreeMap::new();
    let certificate = template.client_certificate()?;
    let client = Mounted::make(&state, None, &directory.0.join("client"), Mountable::Of(certificate))?;
    mounts.insert(Target::Client, client);
    let site = if with.site {
        let site = Site::make(&template.manifests, &state, &directory.0.join("provider"))?;
        let mounted = Mounted::make(&state, Some(&site), &directory.0.join("site"), Mountable::Site)?;
        mounts.insert(Target::Site, mounted);
        Some(site)
    } else {
        None
    };
    Ok(PreparedParts { state, mounts, site, directory, with })
}

/// What an installation has beside its server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OptionalParts {
    replica: bool,
    gateway: bool,
    site: bool,
}

/// What an installation runs.
#[derive(Default)]
pub(super) struct Running {
    pub(super) servers: BTreeMap<Target, Arc<dyn Installed>>,
    pub(super) replication: Option<Arc<StreamingReplication>>,
    pub(super) gateway: Option<Arc<HaproxyGateway>>,
}

pub(super) async fn start(
    shared: &Arc<Shared>,
    key: ServerKey,
    with: OptionalParts,
    directory: &Directory,
    state: &State,
) -> Result<Running, EnvironmentError> {
    let mut running = Running::default();
    let files = |target: Target, paths: &Paths| {
        Ok(Files { configuration: state.configuration(paths)?, certificates: state.certificates(target, paths)? })
    };
    match key.service {
        Service::Postgres => {
            let start = async |target: Target, follows: Option<Follows>| {
                let files = |paths: &Paths| files(target, paths);
                InstalledPostgres::start(Arc::clone(shared), key, &directory.name(target), follows, &files).await.map(Arc::new)
            };
            let primary = start(Target::Postgres, None).await?;
            if with.replica {
                let follows = Follows { primary: primary.address(), cluster: state.cluster_name().unwrap_or_default().to_owned() };
                let replica = start(Target::Replica, Some(follows)).await?;
                running.replication = Some(Arc::new(StreamingReplication::new(Arc::clone(&primary), Arc::clone(&replica))));
                running.servers.insert(Target::Replica, replica);
            }
            running.servers.insert(Target::Postgres, primary);
        }
        Service::Redis => {
            let files = |paths: &Paths| files(Target::Redis, paths);
            let server = InstalledRedis::start(Arc::clone(shared), key, &directory.name(Target::Redis), &files).await?;
            running.servers.insert(Target::Redis, Arc::new(server));
        }
    }
    if with.gateway
        && let Some(server) = running.servers.get(&Target::from(key.service))
    {
        let backend = Backend::new(state.route(key.service), key, server.place().address_for_gateway())?;
        let name = directory.name(Target::Gateway);
        running.gateway = Some(Arc::new(HaproxyGateway::start(Arc::clone(shared), &name, vec![backend]).await?));
    }
    Ok(running)
}
