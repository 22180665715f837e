//! Real servers as processes on loopback: one PostgreSQL for every version and deployment, one Redis for every deployment, started at
//! their first use and reconfigured in place.

mod build;
mod configure;
mod gateway;
mod initdb;
mod installation;
mod instance;
mod log;
mod manifest;
mod port;
mod postgres;
mod redis;
mod reload;
#[cfg(test)]
mod tests;

pub use configure::{ConfigFile, Configurator, Paths};
pub use installation::Blueprint;
pub use manifest::ManifestConfigurator;
pub use port::{PortSource, free_port, loopback};

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, watch};
use tokio::task::{JoinHandle, JoinSet};

use self::gateway::Gateways;
use self::installation::LocalInstallation;
use self::instance::Instance;
use super::{Environment, EnvironmentError, Gateway, InstallOptions, Installation, Server};
use crate::model::change::Change;
use crate::model::claim::Subject;
use crate::model::connect::Password;
use crate::model::outcome::SkipReason;
use crate::model::report::Component;
use crate::model::server::{ServerKey, Service};
use crate::os::toolchain::{PostgresBuild, Toolchain};
use crate::os::user::RunAs;

/// What a [`LocalEnvironment`] is made from.
#[derive(Clone)]
pub struct LocalOptions {
    /// The programs.
    pub toolchain: Toolchain,
    /// The run's directory ([`RunDir`](crate::os::rundir::RunDir)), searchable by the servers' user. Servers' files are made in it; whoever
    /// owns it removes them.
    pub run_directory: PathBuf,
    /// Where prepared data directories are kept from run to run. Made if it is missing.
    pub cache_directory: PathBuf,
    /// Says what the servers' files hold.
    pub configurator: Arc<dyn Configurator>,
    /// What installations are made from; `None`: there are none.
    pub blueprint: Option<Blueprint>,
    /// The user that servers run as; `None`: ourselves.
    pub user: Option<RunAs>,
    /// How long a server may take to start.
    pub start_limit: Duration,
    /// How long a server may take to reload its configuration.
    pub reload_limit: Duration,
    /// Gives ports to try.
    pub ports: PortSource,
}

impl LocalOptions {
    /// Options with the defaults: no installations, the unprivileged user if we are root, free ports, and limits far above what a busy machine needs
    /// (a start takes a tenth of a second, a reload some milliseconds).
    #[must_use]
    pub fn new(
        toolchain: Toolchain,
        run_directory: impl Into<PathBuf>,
        cache_directory: impl Into<PathBuf>,
        configurator: Arc<dyn Configurator>,
    ) -> Self {
        Self {
            toolchain,
            run_directory: run_directory.into(),
            cache_directory: cache_directory.into(),
            configurator,
            blueprint: None,
            user: RunAs::unprivileged(),
            start_limit: Duration::from_secs(30),
            reload_limit: Duration::from_secs(10),
            ports: Arc::new(free_port),
        }
    }
}

/// Servers as processes on this machine. Must be used inside one tokio runtime. Dropping it stops the servers, in order if slowly;
/// [`Environment::close`] is faster.
pub struct LocalEnvironment {
    shared: Arc<Shared>,
    slots: Mutex<Slots>,
    gateways: Gateways,
}

/// What every server of the environment needs.
struct Shared {
    options: LocalOptions,
    password: Password,
    /// What was prepared for a version, or why it can't be.
    prepared: BTreeMap<u16, OnceCell<Result<Prepared, Failure>>>,
}

/// A PostgreSQL version ready for use.
#[derive(Debug, Clone)]
struct Prepared {
    /// The directory of `postgres`.
    bin: PathBuf,
    /// The data directory to copy.
    template: PathBuf,
}

/// Why something could not be prepared or started.
#[derive(Debug, Clone)]
struct Failure {
    /// What was tried and found.
    reason: String,
    /// Where more is to be read.
    log: PathBuf,
}

impl Failure {
    fn new(reason: impl Into<String>, log: &Path) -> Self {
        Self { reason: reason.into(), log: log.to_path_buf() }
    }

    fn at_start_of(self, key: ServerKey) -> EnvironmentError {
        EnvironmentError::Start { server: key.to_string(), reason: self.reason, log: self.log }
    }
}

#[derive(Default)]
struct Slots {
    closed: bool,
    by_key: BTreeMap<ServerKey, Slot>,
    /// Those that were made; whoever asked for one holds it.
    installations: Vec<Weak<LocalInstallation>>,
}

type Started = Result<Arc<dyn Instance>, EnvironmentError>;

/// A server that is being started, is there, or did not come up. Its start is a task of its own: a case that gives up waiting doesn't end it.
struct Slot {
    state: watch::Receiver<Option<Started>>,
    task: JoinHandle<()>,
}

impl LocalEnvironment {
    /// An environment without any server yet.
    ///
    /// # Errors
    /// [`EnvironmentError::Other`] where the system gives no randomness for the password.
    pub fn new(options: LocalOptions) -> Result<Self, EnvironmentError> {
        let password = random_password()
            .map_err(|error| EnvironmentError::Other(format!("could not make a password for this run from /dev/urandom: {error}")))?;
        let prepared = options.toolchain.postgres.iter().map(|build| (build.major, OnceCell::new())).collect();
        Ok(Self { shared: Arc::new(Shared { options, password, prepared }), slots: Mutex::default(), gateways: Gateways::default() })
    }

    /// What must appear in no report: the run's password.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        vec![self.shared.password.reveal().to_owned()]
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of this key's server, which begins to start if it has not yet.
    fn state(&self, key: ServerKey) -> Result<watch::Receiver<Option<Started>>, EnvironmentError> {
        let mut slots = self.slots();
        if slots.closed {
            return Err(EnvironmentError::Other(format!("{key} was asked for after the environment was closed")));
        }
        let slot = slots.by_key.entry(key).or_insert_with(|| {
            let (sender, state) = watch::channel(None);
            let shared = Arc::clone(&self.shared);
            let task = tokio::spawn(async move {
                let started = start(&shared, key).await;
                sender.send_replace(Some(started));
            });
            Slot { state, task }
        });
        Ok(slot.state.clone())
    }
}

async fn start(shared: &Arc<Shared>, key: ServerKey) -> Started {
    match (key.service, key.version) {
        (Service::Postgres, Some(major)) => {
            let build = shared.postgres(major).ok_or_else(|| missing(shared, key))?;
            let prepared = shared.prepare(build).await.map_err(|failure| failure.at_start_of(key))?;
            Ok(Arc::new(postgres::PostgresServer::start(Arc::clone(shared), key, &prepared).await?))
        }
        (Service::Postgres, None) => Err(EnvironmentError::Other(format!("{key} names no version of PostgreSQL"))),
        (Service::Redis, _) => {
            let tool = shared.options.toolchain.redis.clone().ok_or_else(|| missing(shared, key))?;
            Ok(Arc::new(redis::RedisServer::start(Arc::clone(shared), key, &tool).await?))
        }
    }
}

fn missing(shared: &Shared, key: ServerKey) -> EnvironmentError {
    EnvironmentError::Other(shared.missing(key).unwrap_or_else(|| format!("{key} is not installed")))
}

impl Shared {
    fn postgres(&self, major: u16) -> Option<&PostgresBuild> {
        self.options.toolchain.postgres.iter().find(|build| build.major == major)
    }

    /// What is said of a server that is not installed; `None` if it is.
    fn missing(&self, key: ServerKey) -> Option<String> {
        let (present, name, product) = match key.service {
            Service::Postgres => {
                let major = key.version.unwrap_or_default();
                (self.postgres(major).is_some(), format!("postgres-{major}"), format!("PostgreSQL {major}"))
            }
            Service::Redis => (self.options.toolchain.redis.is_some(), "redis".to_owned(), "Redis".to_owned()),
        };
        if present {
            return None;
        }
        let cost = self.options.toolchain.missing.iter().find(|missing| missing.name == name).map(|missing| missing.cost.as_str());
        Some(match cost {
            Some(cost) => format!("{product} is not installed: {cost}"),
            None => format!("{product} is not installed: `make setup` brings it"),
        })
    }

    /// A version's programs and prepared data directory, made ready at the first call.
    async fn prepare(&self, build: &PostgresBuild) -> Result<Prepared, Failure> {
        let options = &self.options;
        let prepare = async || {
            let (user, scratch) = (options.user.as_ref(), options.run_directory.as_path());
            let bin = build::usable(build, user, scratch).await?;
            let template = initdb::prepared(build, &bin, user, &options.cache_directory, scratch).await?;
            Ok(Prepared { bin, template })
        };
        match self.prepared.get(&build.major) {
            Some(cell) => cell.get_or_init(prepare).await.clone(),
            None => prepare().await,
        }
    }
}

#[async_trait]
impl Environment for LocalEnvironment {
    fn name(&self) -> &'static str {
        "local"
    }

    fn real_subjects(&self) -> &'static [Subject] {
        // Of what reads and copies the deployment's own files, the files are what is meant.
        const ALWAYS: [Subject; 6] =
            [Subject::Postgres, Subject::Libpq, Subject::Redis, Subject::Openssl, Subject::Clients, Subject::Config];
        const WITH_GATEWAY: [Subject; 7] =
            [Subject::Postgres, Subject::Libpq, Subject::Redis, Subject::Openssl, Subject::Clients, Subject::Config, Subject::Gateway];
        if self.shared.options.toolchain.haproxy.is_some() { &WITH_GATEWAY } else { &ALWAYS }
    }

    fn components(&self) -> Vec<Component> {
        let toolchain = &self.shared.options.toolchain;
        let found = |name: String, version: &str, tls_library: Option<String>, origin: Option<&str>| Component {
            name,
            version: Some(version.to_owned()),
            tls_library,
            origin: origin.map(str::to_owned),
            missing: None,
        };
        let mut components: Vec<Component> = toolchain
            .postgres
            .iter()
            .map(|build| found(format!("postgres-{}", build.major), &build.version, build.openssl.clone(), Some(build.origin)))
            .collect();
        let tools = [
            ("redis", &toolchain.redis),
            ("haproxy", &toolchain.haproxy),
            ("openssl", &toolchain.openssl),
            ("pgbench", &toolchain.pgbench),
        ];
        components.extend(tools.iter().filter_map(|(name, tool)| {
            let tool = tool.as_ref()?;
            Some(found((*name).to_owned(), &tool.version, None, None))
        }));
        // Missing client libraries are the drivers' to tell.
        let ours = |name: &str| name.starts_with("postgres-") || tools.iter().any(|(tool, _)| *tool == name);
        components.extend(toolchain.missing.iter().filter(|missing| ours(&missing.name)).map(|missing| Component {
            name: missing.name.clone(),
            version: None,
            tls_library: None,
            origin: None,
            missing: Some(missing.cost.clone()),
        }));
        components
    }

    fn unable(&self, key: ServerKey) -> Option<SkipReason> {
        if key.service == Service::Postgres && key.version.is_none() {
            return Some(SkipReason::EnvironmentUnable(format!("{key} names no version of PostgreSQL")));
        }
        self.shared.missing(key).map(SkipReason::ServerMissing)
    }

    async fn server(&self, key: ServerKey) -> Result<Arc<dyn Server>, EnvironmentError> {
        let mut state = self.state(key)?;
        let started = match state.wait_for(Option::is_some).await {
            Ok(started) => started.clone(),
            // The task ended without a word: the environment was closed meanwhile, or it panicked.
            Err(_) => None,
        };
        let server = started.unwrap_or_else(|| Err(EnvironmentError::Other(format!("the start of {key} was broken off"))))?;
        match server.lost().await {
            Some(lost) => Err(lost),
            None => Ok(server),
        }
    }

    async fn install(&self, options: &InstallOptions) -> Result<Arc<dyn Installation>, EnvironmentError> {
        let closed = || EnvironmentError::Other(format!("{} was to be installed after the environment was closed", options.key));
        if self.slots().closed {
            return Err(closed());
        }
        let installation = Arc::new(LocalInstallation::make(&self.shared, options).await?);
        let mut slots = self.slots();
        if slots.closed {
            return Err(closed());
        }
        slots.installations.retain(|known| known.strong_count() > 0);
        slots.installations.push(Arc::downgrade(&installation));
        Ok(installation)
    }

    fn unable_gateway(&self, key: ServerKey) -> Option<SkipReason> {
        gateway::unable(&self.shared.options, key)
    }

    fn unable_change(&self, change: &Change<String>) -> Option<SkipReason> {
        installation::unable_change(change)
    }

    async fn gateway(&self, key: ServerKey) -> Result<Arc<dyn Gateway>, EnvironmentError> {
        let address = self.server(key).await?.address();
        Ok(self.gateways.of(&self.shared, key, address).await?)
    }

    async fn close(&self) {
        self.gateways.stop().await;
        let (slots, installations) = {
            let mut slots = self.slots();
            slots.closed = true;
            (std::mem::take(&mut slots.by_key), std::mem::take(&mut slots.installations))
        };
        let mut stops = JoinSet::new();
        for installation in installations.iter().filter_map(Weak::upgrade) {
            stops.spawn(async move { installation.close().await });
        }
        for slot in slots.into_values() {
            stops.spawn(async move {
                // A start that is under way is broken off; its child is stopped as it is dropped.
                slot.task.abort();
                let _ = slot.task.await;
                let started = slot.state.borrow().clone();
                if let Some(Ok(server)) = started {
                    server.stop().await;
                }
            });
        }
        while stops.join_next().await.is_some() {}
    }
}

impl Drop for LocalEnvironment {
    fn drop(&mut self) {
        // The servers' children stop as the last references to the servers go.
        for slot in self.slots().by_key.values() {
            slot.task.abort();
        }
    }
}

/// 24 random bytes in hex.
fn random_password() -> std::io::Result<Password> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Password::new(text))
}
