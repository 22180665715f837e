//! An installation: the deployment once more, for one timeline alone, in a directory of its own: CA, Secrets, mounts and a server that change.

mod fault;
mod mount;
mod operator;
mod postgres;
mod redis;
mod replication;
mod server;
mod site;
mod state;
mod template;

pub use template::InstallationTemplate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use self::mount::Mount;
use self::postgres::{Follows, InstalledPostgres};
use self::redis::InstalledRedis;
use self::replication::StreamingReplication;
use self::server::{Files, Installed};
use self::site::Site;
use self::state::{Remaining, State};
use super::configure::Paths;
use super::gateway::{Backend, HaproxyGateway};
use super::shared::Shared;
use crate::error::{ChangeError, EnvironmentError, InstallError, MissingPart};
use crate::{Applied, Gateway, InstallOptions, Installation, Replication, Server};
use model::change::{Change, Target};
use model::connect::ClientFiles;
use model::server::{ServerKey, Service};
use os::{shared_memory, tree};

/// How long the removal of an installation's directory is tried.
const REMOVAL: Duration = Duration::from_secs(2);

/// An installation that runs.
pub(super) struct RunningInstallation {
    key: ServerKey,
    state: Mutex<State>,
    servers: BTreeMap<Target, Arc<dyn Installed>>,
    replication: Option<Arc<StreamingReplication>>,
    gateway: Option<Arc<HaproxyGateway>>,
    mounts: Mutex<BTreeMap<Target, Mounted>>,
    site: Option<Site>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
    // Dropped last: it removes what all others are in.
    directory: Directory,
}

/// A mount, and what is in it.
struct Mounted {
    mount: Mount,
    secret: Mountable,
}

/// A Secret that pods mount.
enum Mountable {
    /// That of a Certificate.
    Of(String),
    /// The site's own.
    Site,
}

/// A directory that is removed when this is dropped.
struct Directory(PathBuf);

impl Directory {
    /// The place of a target's files, below the run's directory.
    fn name(&self, target: Target) -> String {
        format!("{}/{target}", self.0.file_name().unwrap_or_default().to_string_lossy())
    }

    /// Leaves the logs in it, for whoever is told of an error: they go with the run's directory.
    fn leave_logs(self) {
        // What tells of it goes with the data directories.
        shared_memory::release_below(&self.0);
        for server in std::fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let path = server.path();
            let servers = path.join("log").is_dir();
            for gone in if servers { vec![path.join("data"), path.join("certificates"), path.join("run")] } else { vec![path] } {
                let _ = tree::remove(&gone, REMOVAL);
            }
        }
        std::mem::forget(self);
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        shared_memory::release_below(&self.0);
        // Whatever can't be removed goes with the run's directory.
        let _ = tree::remove(&self.0, REMOVAL);
    }
}

impl RunningInstallation {
    /// Makes one, its server running.
    pub(super) async fn make(shared: &Arc<Shared>, options: &InstallOptions) -> Result<Self, EnvironmentError> {
        let key = options.key;
        let PreparedParts { state, mounts, site, directory, with } =
            prepare(shared, options).await.map_err(|source| EnvironmentError::Install { key, source })?;
        let Running { servers, replication, gateway } = match start(shared, key, with, &directory, &state).await {
            Ok(running) => running,
            Err(error) => {
                directory.leave_logs();
                return Err(error);
            }
        };
        Ok(Self {
            key,
            state: Mutex::new(state),
            servers,
            replication,
            gateway,
            mounts: Mutex::new(mounts),
            site,
            turn: tokio::sync::Mutex::new(()),
            directory,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is complete or has changed nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mounts(&self) -> MutexGuard<'_, BTreeMap<Target, Mounted>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The target's server.
    fn installed(&self, target: Target) -> Result<&Arc<dyn Installed>, EnvironmentError> {
        self.servers.get(&target).ok_or_else(|| {
            let known: Vec<&str> = self.servers.keys().map(|target| target.name()).collect();
            MissingPart::Server { key: self.key, target, known: known.join(", ") }.into()
        })
    }

    fn site(&self) -> Result<&Site, EnvironmentError> {
        Ok(self.site.as_ref().ok_or(MissingPart::Site(self.key))?)
    }

    async fn write_configuration(&self, change: &Change<String>) -> Result<(), EnvironmentError> {
        for server in self.servers.values() {
            let files = self.state().configuration(server.paths()).map_err(|error| not_done(change, error))?;
            server.write_configuration(files).await?;
        }
        Ok(())
    }

    async fn sync(&self, target: Target) -> Result<(), EnvironmentError> {
        if let Some(mounted) = self.mounts().get_mut(&target) {
            return mounted.sync(&self.state(), self.site.as_ref()).map_err(|error| not_done(&Change::Sync(target), error));
        }
        let server = self.installed(target)?;
        let files = self.state().certificates(target, server.paths()).map_err(|error| not_done(&Change::Sync(target), error))?;
        server.write_certificates(files).await
    }

    async fn reconcile(&self) -> Result<Applied, EnvironmentError> {
        let due = self.state().look().map_err(|error| not_done(&Change::Reconcile, error))?;
        let mut applied = Applied::default();
        if due {
            for (target, server) in &self.servers {
                self.sync(*target).await?;
                // The operator waits for a server that is down.
                if server.is_up().await {
                    applied.objection = applied.objection.or(server.reload().await?.objection);
                }
            }
        }
        Ok(applied)
    }

    fn own_gateway(&self) -> Result<&Arc<HaproxyGateway>, EnvironmentError> {
        Ok(self.gateway.as_ref().ok_or(MissingPart::Gateway(self.key))?)
    }

    /// A change of the gateway, which has no files that change.
    async fn change_gateway(&self, change: &Change<String>) -> Result<Applied, EnvironmentError> {
        let gateway = self.own_gateway()?;
        match change {
            Change::Stop(_) => gateway.stop().await,
            Change::Start(_) => gateway.start_again().await?,
            Change::Restart(_) => {
                gateway.stop().await;
                gateway.start_again().await?;
            }
            other => return Err(EnvironmentError::NotForGateways(other.to_string())),
        }
        Ok(Applied::default())
    }

    async fn disconnect(&self, target: Target) -> Result<(), EnvironmentError> {
        match (target, &self.replication) {
            (Target::Replica, Some(replication)) => replication.disconnect().await,
            _ => self.installed(target)?.disconnect().await,
        }
    }

    async fn restart(&self, target: Target) -> Result<Applied, EnvironmentError> {
        let server = self.installed(target)?;
        if server.is_up().await {
            server.stop().await?;
        }
        server.start().await
    }
}

impl Mounted {
    fn make(state: &State, site: Option<&Site>, directory: &Path, secret: Mountable) -> Result<Self, InstallError> {
        let mount = Mount::make(directory).map_err(InstallError::directory(directory.to_path_buf()))?;
        let mut mounted = Self { mount, secret };
        mounted.sync(state, site)?;
        Ok(mounted)
    }

    fn sync(&mut self, state: &State, site: Option<&Site>) -> Result<(), ChangeError> {
        let (secret, swapped) = match &self.secret {
            Mountable::Of(certificate) => {
                let data = state.cert_manager.secret_of(certificate).and_then(|name| state.cert_manager.secret(name))?.data();
                (format!("Certificate `{certificate}`"), self.mount.swap(data))
            }
            Mountable::Site => ("the site".to_owned(), self.mount.swap(&site.map(Site::data).unwrap_or_default())),
        };
        swapped.map_err(|error| ChangeError::Mount { secret, source: Arc::new(error) })
    }
}

/// A name for an installation's directory. Short: a unix socket's path has a narrow limit.
fn next_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("i{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

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
struct PreparedParts {
    state: State,
    mounts: BTreeMap<Target, Mounted>,
    site: Option<Site>,
    directory: Directory,
    with: Beside,
}

/// Issues everything, makes the changes of the set-up, and fills what clients mount.
async fn prepare(shared: &Shared, options: &InstallOptions) -> Result<PreparedParts, InstallError> {
    let key = options.key;
    let template = shared.options.template.as_ref().ok_or(InstallError::NoManifests)?;
    let mut with = Beside::default();
    for target in &options.with {
        match target {
            Target::Replica if key.service == Service::Postgres => with.replica = true,
            Target::Gateway => with.gateway = true,
            Target::Site => with.site = true,
            other => return Err(InstallError::NoPart(*other)),
        }
    }
    let mut state = State::new(&template.manifests, key, options.config.clone())?;
    for change in &options.setup {
        let made = set_up(&mut state, change).await;
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
struct Beside {
    replica: bool,
    gateway: bool,
    site: bool,
}

/// What an installation runs.
#[derive(Default)]
struct Running {
    servers: BTreeMap<Target, Arc<dyn Installed>>,
    replication: Option<Arc<StreamingReplication>>,
    gateway: Option<Arc<HaproxyGateway>>,
}

async fn start(
    shared: &Arc<Shared>,
    key: ServerKey,
    with: Beside,
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

/// Waits until the wall clock has come to `end`, also where somebody sets it meanwhile.
async fn sleep_until(end: SystemTime) {
    while let Ok(left) = end.duration_since(SystemTime::now()) {
        // A clock that is exactly there leaves nothing.
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left).await;
    }
}

fn not_done(change: &Change<String>, source: impl Into<ChangeError>) -> EnvironmentError {
    EnvironmentError::Change { change: change.to_string(), source: source.into() }
}

/// A server of an installation was asked to take a configuration.
fn not_configurable(key: ServerKey) -> EnvironmentError {
    EnvironmentError::NotConfigurable(key)
}

#[async_trait]
impl Installation for RunningInstallation {
    fn server(&self, target: Target) -> Option<Arc<dyn Server>> {
        let server = Arc::clone(self.servers.get(&target)?);
        Some(server)
    }

    fn gateway(&self) -> Option<Arc<dyn Gateway>> {
        Some(Arc::clone(self.gateway.as_ref()?) as Arc<dyn Gateway>)
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        Some(Arc::clone(self.replication.as_ref()?) as Arc<dyn Replication>)
    }

    fn mount(&self, target: Target) -> Option<ClientFiles> {
        self.mounts().get(&target).map(|mounted| mounted.mount.files())
    }

    fn certificate_sha256(&self, certificate: &str) -> Option<String> {
        self.state().cert_manager.sha256(certificate).ok()
    }

    async fn apply(&self, change: &Change<String>) -> Result<Applied, EnvironmentError> {
        let _turn = self.turn.lock().await;
        let made = self.state().make(change);
        if let Some(made) = made {
            match made.map_err(|error| not_done(change, error))? {
                Remaining::Nothing => {}
                Remaining::Configuration => self.write_configuration(change).await?,
                Remaining::Until(end) => sleep_until(end).await,
            }
            return Ok(Applied::default());
        }
        let done = |()| Applied::default();
        match change {
            Change::Reload(Target::Gateway)
            | Change::Restart(Target::Gateway)
            | Change::Stop(Target::Gateway)
            | Change::Start(Target::Gateway) => self.change_gateway(change).await,
            Change::Reconcile => self.reconcile().await,
            Change::Sync(target) => self.sync(*target).await.map(done),
            Change::Reload(target) => self.installed(*target)?.reload().await,
            Change::Restart(target) => self.restart(*target).await,
            Change::Stop(target) => self.installed(*target)?.stop().await.map(done),
            Change::Start(target) => self.installed(*target)?.start().await,
            Change::Disconnect(target) => self.disconnect(*target).await.map(done),
            Change::Pause(_) | Change::Resume(_) | Change::Kill(_) | Change::Cut(_) | Change::Mend(_) => self.fault(change).await.map(done),
            Change::Push => self.site()?.push(&self.state()).map_err(|error| not_done(change, error)).map(done),
            Change::Refresh => Ok(self.site()?.refresh().await),
            other => Err(EnvironmentError::NoChange(other.to_string())),
        }
    }

    async fn close(&self) {
        let _turn = self.turn.lock().await;
        if let Some(gateway) = &self.gateway {
            gateway.close().await;
        }
        for server in self.servers.values() {
            server.end().await;
        }
        let directory = self.directory.0.clone();
        // Whatever can't be removed now is tried again when this is dropped.
        let remove = move || {
            shared_memory::release_below(&directory);
            tree::remove(&directory, REMOVAL)
        };
        let _ = tokio::task::spawn_blocking(remove).await;
    }
}

impl Drop for RunningInstallation {
    fn drop(&mut self) {
        // Others may still hold a server; what it runs ends here.
        for server in self.servers.values() {
            server.abandon();
        }
        if let Some(gateway) = &self.gateway {
            gateway.abandon();
        }
    }
}
