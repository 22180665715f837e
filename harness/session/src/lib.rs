//! A run's parts wired together: credentials, environment and drivers for the cases that are meant. The command line and `cargo test`
//! both run cases through here, and differ in what they do with the events.

mod changes;
#[cfg(feature = "container")]
mod containers;
mod credentials;
pub mod drivers;
mod error;
mod lacking;
mod space;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use error::SessionError;

use credentials::Issued;
use deployment::Manifests;
use deployment::unseen::UnseenLine;
use drivers::{Own, OwnDriver};
use environment::local::{self, LocalOptions};
use environment::{Environment, InstallationTemplate, ManifestConfigurator, Servers, ServersOptions};
use expand::{Catalogue, expand};
use lacking::Found;
#[cfg(feature = "container")]
use load::images::Images;
use load::{LoadError, ScenarioSet};
use model::case::Case;
use model::credential::Credentials;
use model::outcome::SkipReason;
use model::report::{EnvironmentRecord, RunUsers};
use model::server::Service;
use os::evidence::EvidenceError;
use os::redact::Redactor;
use os::rundir::{RunDir, RunDirError};
use os::space::Unfit;
use os::toolchain::{POSTGRES_MAJORS, Toolchain};
use os::tree;
use os::user::{self, RunAs};
use pki::{self, FileUsers, Pki};
use run::context::{Limits, RunContext};
use run::event::Event;
use run::keep::{Evidence, EvidenceOptions};
use run::schedule::{ScheduleOptions, run as run_cases};

/// The identity of the global cluster's pods: installations mount the Secret of its Certificate.
const GLOBAL_CLIENT: &str = "app";

/// Checks that everything the set's credentials and timelines name can be made from the manifests.
///
/// # Errors
/// Everything that can't, in order of places; an object that the manifests lack once.
pub fn check(set: &ScenarioSet, manifests: &Manifests) -> Result<(), Vec<LoadError>> {
    let found = |problem: pki::CredentialProblem| Found {
        error: LoadError::new(set.place_of_credential(&problem.path), problem.message),
        lacks: problem.lacks,
    };
    let mut all: Vec<Found> = pki::check(manifests, &set.credentials).into_iter().map(found).collect();
    all.extend(changes::check(set, manifests));
    let errors = lacking::errors(all);
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The cases of a set in id order. Those whose driver is not installed are marked as skipped. `mount` is where the drivers `nautobot-*` find
/// their files.
///
/// # Errors
/// Everything that is wrong in the set, each with its place.
pub fn plan(set: &ScenarioSet, toolchain: &Toolchain, own: &[OwnDriver], mount: &str) -> Result<Vec<Case>, Vec<LoadError>> {
    let catalogue = Catalogue { drivers: drivers::known(own), postgres: POSTGRES_MAJORS.to_vec(), mount: mount.to_owned() };
    let mut cases = expand(set, &catalogue)?;
    for case in &mut cases {
        let missing = case.drivers().find_map(|name| drivers::missing(name, toolchain, own));
        case.skip = missing.map(SkipReason::DriverMissing);
    }
    Ok(cases)
}

/// The environment to make, with what only that one needs.
#[derive(Debug, Clone)]
pub enum EnvironmentKind {
    /// As processes on this machine.
    Local,
    /// In containers, from these images.
    #[cfg(feature = "container")]
    Container(Images),
}

/// What a [`Session`] is made from.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// Where the servers of cases run.
    pub environment: EnvironmentKind,
    /// The harness's own binary: it watches the run directory and loads client libraries.
    pub harness: PathBuf,
    /// The servers, clients and tools that were found on this machine.
    pub toolchain: Toolchain,
    /// The deployment that certificates and configurations are made from.
    pub manifests: Arc<Manifests>,
    /// What scenarios name beside it; see [`check`].
    pub credentials: Credentials,
    /// What outlives the run: prepared data directories.
    pub cache: PathBuf,
    /// Where the run's directory goes; `None`: to the first of `/dev/shm` and the temporary directory that has room for it.
    pub run_directory: Option<PathBuf>,
    /// The user's own drivers.
    pub own_drivers: Vec<OwnDriver>,
    /// The user's own `nautobot_config.py`; `None`: ours.
    pub nautobot_config: Option<PathBuf>,
    /// The directory in which that file finds tls.crt, tls.key and ca.crt.
    pub nautobot_mount: String,
    /// Time limits of a case.
    pub limits: Limits,
    /// How long a server may take to start; `None` leaves it to the environment.
    pub start_limit: Option<Duration>,
    /// Where evidence of failed cases goes; `None` keeps none.
    pub evidence: Option<EvidenceOptions>,
    /// What stands after `mtls-conformance run ID` to repeat a case in the same environment.
    pub repro_options: String,
    /// Turns true when the run is to end: cases that have begun do, and nothing else begins.
    pub interrupted: watch::Receiver<bool>,
}

/// Everything that runs cases: the run directory, the environment, the drivers. Servers start at their first use.
///
/// Dropping it stops everything too, if more slowly than [`Session::close`]; what a killed process leaves, the watcher removes.
pub struct Session {
    // Fields drop in this order: clients, servers, and the directory last.
    run_context: Arc<RunContext>,
    environment: Arc<Servers>,
    interrupted: watch::Receiver<bool>,
    earlier_evidence: Option<EvidenceError>,
    directory: RunDir,
}

impl Session {
    /// Starts the drivers that the cases need. Credentials that can't be made ([`check`]) become errors of their cases. Must be called in
    /// the tokio runtime that will run them.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn start(options: SessionOptions, cases: &[Arc<Case>]) -> Result<Self, SessionError> {
        #[cfg_attr(not(feature = "container"), expect(unused_mut, reason = "only containers are entrusted to it"))]
        let mut directory = RunDir::create(&space::needed(&options, cases), Some(&options.harness))?;
        let client = options.credentials.identities.get(GLOBAL_CLIENT).map(|identity| identity.certificate.clone());
        let template = InstallationTemplate { manifests: Arc::clone(&options.manifests), client };
        let files = directory.path().join("pki");
        let users = FileUsers::of_this_run();
        if let Some(client) = &users.client {
            // What clients are given, servers can't enter.
            let closed = tree::make_directory(&files, 0o710, Some(&RunAs::root_with_group_of(Some(client))));
            closed.map_err(|source| RunDirError::Create { base: directory.path().to_path_buf(), source })?;
        }
        let pki = Arc::new(Pki::new(options.manifests, options.credentials, files, users));
        let configurator = Arc::new(ManifestConfigurator::new(Arc::clone(&pki)));
        let mut servers = ServersOptions::new(directory.path(), configurator);
        servers.template = Some(template);
        servers.start_limit = options.start_limit.unwrap_or(servers.start_limit);
        let environment = match options.environment {
            EnvironmentKind::Local => local::environment(LocalOptions::of(options.toolchain.clone(), options.cache, servers))?,
            #[cfg(feature = "container")]
            EnvironmentKind::Container(images) => {
                containers::environment(
                    images,
                    &options.harness,
                    options.cache,
                    servers,
                    &mut directory,
                    cases,
                    options.interrupted.clone(),
                )
                .await?
            }
        };
        let environment = Arc::new(environment);
        let needed: BTreeSet<String> = cases
            .iter()
            .filter(|case| case.skip.is_none() && case.unmet(environment.name()).is_none())
            .flat_map(|case| case.drivers())
            .map(str::to_owned)
            .collect();
        let own = Own {
            drivers: &options.own_drivers,
            nautobot_config: options.nautobot_config.as_deref(),
            nautobot_mount: &options.nautobot_mount,
        };
        let running = drivers::start(
            &needed,
            &options.toolchain,
            own,
            &options.harness,
            directory.path(),
            options.limits.program,
            environment.client_container(),
        )
        .await;
        let begun = options.evidence.map(|evidence| Evidence::begin(&evidence, Redactor::new(environment.secrets())));
        let (evidence, earlier_evidence) = begun.map_or((None, None), |(evidence, earlier)| (Some(evidence), earlier));
        let run_context = Arc::new(RunContext {
            drivers: running,
            credentials: Arc::new(Issued { pki }),
            networks: environment.networks(),
            openssl: options.toolchain.openssl.as_ref().map(|tool| tool.path.clone()),
            limits: options.limits,
            evidence,
            repro_options: options.repro_options,
        });
        Ok(Self { run_context, environment, interrupted: options.interrupted, earlier_evidence, directory })
    }

    /// The environment, for servers and secrets.
    #[must_use]
    pub fn environment(&self) -> &Servers {
        &self.environment
    }

    /// What cases are carried out with: drivers and credentials.
    #[must_use]
    pub fn run_context(&self) -> &Arc<RunContext> {
        &self.run_context
    }

    /// The places where the run's directory would have gone, and what they lack; empty where it went to the first.
    #[must_use]
    pub fn unfit_places(&self) -> &[Unfit] {
        self.directory.unfit()
    }

    /// Why evidence of an earlier run is still there, if it should not be.
    #[must_use]
    pub fn earlier_evidence(&self) -> Option<&EvidenceError> {
        self.earlier_evidence.as_ref()
    }

    /// The directory of everything that the run makes; gone after [`Session::close`].
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where the run takes place, for its report.
    #[must_use]
    pub fn record(&self) -> EnvironmentRecord {
        let mut drivers: Vec<_> = self.run_context.drivers.values().map(|driver| driver.info().clone()).collect();
        drivers.sort_by(|one, other| one.name.cmp(&other.name));
        EnvironmentRecord {
            name: self.environment.name().to_owned(),
            harness: env!("CARGO_PKG_VERSION").to_owned(),
            platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            real_subjects: self.environment.real_subjects().to_vec(),
            components: self.environment.components(),
            drivers,
            networks: self.environment.networks(),
            users: Some(RunUsers {
                harness: user::shown(None),
                servers: self.environment.servers_run_as(),
                clients: user::shown(RunAs::of_clients().as_ref()),
            }),
        }
    }

    /// Lines of the deployment's pg_hba of which the run sees nothing that holds for the deployment; none where no case's server has them.
    #[must_use]
    pub fn unseen_lines(&self, manifests: &Manifests, cases: &[Arc<Case>]) -> Vec<UnseenLine> {
        let has_them = |case: &&Arc<Case>| case.skip.is_none() && case.key.service == Service::Postgres && case.config.pg_hba.is_none();
        let networks = self.environment.networks();
        let mut cases = cases.iter().filter(has_them).peekable();
        if cases.peek().is_none() {
            return Vec::new();
        }
        let mut clients: BTreeSet<IpAddr> = networks.0.values().map(|network| network.client).collect();
        clients.extend(cases.flat_map(|case| case.sources()).filter_map(|source| networks.address(source).ok()));
        manifests.unseen_lines(&clients.into_iter().collect::<Vec<_>>())
    }

    /// Runs cases; see [`run_cases`].
    pub async fn run(&self, cases: Vec<Arc<Case>>, schedule_options: ScheduleOptions, events: mpsc::UnboundedSender<Event>) {
        let environment = Arc::clone(&self.environment) as Arc<dyn Environment>;
        run_cases(cases, environment, Arc::clone(&self.run_context), schedule_options, events, self.interrupted.clone()).await;
    }

    /// Stops clients and servers and removes the run directory; what could not be removed, each with what was tried.
    pub async fn close(self) -> Vec<String> {
        for driver in self.run_context.drivers.values() {
            driver.close().await;
        }
        let left = self.environment.close().await;
        self.directory.close();
        left
    }
}

/// Cases at a time where nobody says how many: most of a case is waiting.
#[must_use]
pub fn default_jobs() -> usize {
    std::thread::available_parallelism().map_or(8, |cpus| cpus.get() * 4)
}
