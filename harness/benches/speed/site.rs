//! What every measurement needs of this machine: programs, manifests, credentials, and environments to start servers in.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deployment::Manifests;
use environment::local::{self, LocalOptions};
use environment::{ManifestConfigurator, Servers};
use load::ScenarioSet;
use model::case::Case;
use model::connect::{ClientFiles, NAUTOBOT_MOUNT, PostgresRequest, SslMode};
use model::credential::SecretFile;
use model::endpoint::{Address, Endpoint};
use os::rundir::RunDir;
use os::space::Space;
use os::toolchain::Toolchain;
use os::tree;
use pki::{FileUsers, Pki};
use run::context::Limits;
use session::{self, EnvironmentKind, SessionOptions};
use tokio::sync::watch;

use crate::Error;

/// The deployment's own client by the name that scenarios give it, its user and its database.
pub(crate) const CLIENT: &str = "app";

/// The trust of the deployment's clients.
pub(crate) const TRUST: &str = "mtls-ca";

/// Names the cache directory to a run, and to this.
pub(crate) const CACHE_VARIABLE: &str = "MTLS_CONFORMANCE_CACHE";

/// This machine, as far as it is measured.
pub(crate) struct Site {
    /// The repository's folder: it has the scenarios and the manifests, and gets the reports.
    pub(crate) root: PathBuf,
    /// The harness's binary, built with this bench.
    pub(crate) harness: PathBuf,
    /// Servers, clients and tools.
    pub(crate) toolchain: Toolchain,
    /// Claims, scenarios and credentials.
    pub(crate) set: ScenarioSet,
    /// Where the toolchain was looked for.
    pub(crate) toolchain_directory: PathBuf,
    /// Prepared data directories of the measurement's own: what runs leave in theirs is the last real run's.
    pub(crate) cache: PathBuf,
    manifests: Arc<Manifests>,
    directory: RunDir,
}

/// Servers with the credentials of their clients, in a directory of their own.
pub(crate) struct Stand {
    /// Where they are started.
    pub(crate) environment: Arc<Servers>,
    /// Issues the credentials of these servers and of their clients.
    pub(crate) pki: Arc<Pki>,
    directory: PathBuf,
}

impl Site {
    /// Finds what is installed, and reads scenarios and manifests. Makes the directory for all that is started.
    pub(crate) fn find() -> Result<Self, Error> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.ancestors().nth(2).unwrap_or(package).to_path_buf();
        let set = ScenarioSet::load(&[root.join("scenarios")]).map_err(|errors| lines(&errors))?;
        let manifests = Arc::new(Manifests::load(&root.join("kind/deployment"))?);
        let harness = PathBuf::from(env!("CARGO_BIN_EXE_mtls-conformance"));
        let directory = RunDir::create(&Space::default(), Some(&harness))?;
        let cache = std::env::var_os(CACHE_VARIABLE).map_or_else(|| root.join(".cache/bench"), PathBuf::from);
        let toolchain_directory = Toolchain::default_directory();
        let toolchain = Toolchain::find(&toolchain_directory);
        Ok(Self { root, harness, toolchain, set, toolchain_directory, cache, manifests, directory })
    }

    /// All cases, as a run plans them.
    pub(crate) fn plan(&self) -> Result<Vec<Case>, Error> {
        Ok(session::plan(&self.set, &self.toolchain, &[], NAUTOBOT_MOUNT).map_err(|errors| lines(&errors))?)
    }

    /// What a run's session is made from.
    pub(crate) fn session_options(&self) -> SessionOptions {
        SessionOptions {
            environment: EnvironmentKind::Local,
            harness: self.harness.clone(),
            toolchain: self.toolchain.clone(),
            manifests: Arc::clone(&self.manifests),
            credentials: self.set.credentials.clone(),
            cache: self.cache.clone(),
            run_directory: None,
            own_drivers: Vec::new(),
            nautobot_config: None,
            nautobot_mount: NAUTOBOT_MOUNT.to_owned(),
            limits: Limits::default(),
            start_limit: None,
            evidence: None,
            repro_options: String::new(),
            interrupted: watch::channel(false).1,
        }
    }

    /// The directory of everything that is started or written; removed at the end.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// An environment without any server yet, in a directory `name` of its own.
    pub(crate) fn stand(&self, name: &str) -> Result<Stand, Error> {
        let directory = self.directory.path().join(name);
        tree::make_directory(&directory, 0o755, None)?;
        let pki = self.pki(&directory);
        let configurator = Arc::new(ManifestConfigurator::new(Arc::clone(&pki)));
        let options = LocalOptions::new(self.toolchain.clone(), &directory, &self.cache, configurator);
        Ok(Stand { environment: Arc::new(local::environment(options)?), pki, directory })
    }

    /// Credentials with their files below `directory`.
    pub(crate) fn pki(&self, directory: &Path) -> Arc<Pki> {
        Arc::new(Pki::new(Arc::clone(&self.manifests), self.set.credentials.clone(), directory.join("pki"), FileUsers::of_ourselves()))
    }

    /// What the deployment's own client asks of a PostgreSQL there: `verify-full` with its certificate.
    pub(crate) fn postgres_request(&self, stand: &Stand, address: SocketAddr) -> Result<PostgresRequest, Error> {
        let host = self.manifests.postgres().ok_or("the manifests describe no PostgreSQL")?.host;
        Ok(PostgresRequest {
            endpoint: Endpoint { host, address: Address::Tcp(address) },
            sslmode: Some(SslMode::VerifyFull),
            sslnegotiation: None,
            files: stand.client_files()?,
            user: CLIENT.to_owned(),
            database: CLIENT.to_owned(),
            password: None,
            min_tls: None,
            max_tls: None,
            alpn: None,
            replication: false,
            env: BTreeMap::new(),
        })
    }

    /// The host name that Redis' clients ask for; `None` without Redis.
    pub(crate) fn redis_host(&self) -> Option<String> {
        self.manifests.redis_defaults().map(|defaults| defaults.host)
    }
}

impl Stand {
    /// The deployment's own client's certificate, key and root.
    pub(crate) fn client_files(&self) -> Result<ClientFiles, Error> {
        let identity = self.pki.identity(CLIENT)?;
        Ok(ClientFiles {
            certificate: Some(identity.path(SecretFile::Certificate)),
            key: Some(identity.path(SecretFile::Key)),
            root: Some(self.pki.trust(TRUST)?),
        })
    }

    /// Stops the servers and removes their directory.
    pub(crate) async fn close(self) {
        environment::Environment::close(self.environment.as_ref()).await;
        // What is left goes with the run directory.
        let _ = tree::remove(&self.directory, Duration::from_secs(2));
    }
}

/// Several errors as one.
pub(crate) fn lines<T: ToString>(errors: &[T]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
