//! The servers' files from the deployment's manifests.

use std::path::Path;
use std::sync::Arc;

use super::configure::{ConfigFile, Configurator, FileOwner, Paths};
use crate::error::ConfigError;
use deployment::cluster::Cluster;
use deployment::gateway::TlsRoute;
use deployment::{Manifests, ServiceDefaults, postgres, redis_conf};
use model::credential::{KeyOwner, SecretFile};
use model::server::{Application, ServerConfig, ServerKey, Service};
use os::user::RunAs;
use pki::{IssuedIdentity, Pki};

/// The file of client authentication rules.
pub(super) const HBA_FILE: &str = "pg_hba.conf";

/// The configuration of a Redis.
pub(super) const REDIS_CONF: &str = "redis.conf";

/// Redis' password, in a file of its own.
const PASSWORD_FILE: &str = "password.conf";

/// A [`Configurator`] that renders manifests and issues their certificates.
pub struct ManifestConfigurator {
    pki: Arc<Pki>,
    system_user: String,
}

impl ManifestConfigurator {
    /// For servers that run as [`RunAs::of_this_run`].
    #[must_use]
    pub fn new(pki: Arc<Pki>) -> Self {
        Self { pki, system_user: system_user() }
    }

    /// What the files hold for this configuration.
    fn contents(&self, service: Service, config: &ServerConfig) -> Result<ServerFiles, ConfigError> {
        let manifests = self.pki.manifests();
        let defaults = defaults(manifests, service)?;
        let secret = |name: &str| self.pki.secret(name);
        let identity = match &config.certificate {
            Some(name) => self.pki.identity(name)?,
            None => secret(&defaults.server_secret)?,
        };
        // What a scenario's credential lacks on purpose the server lacks, too.
        let of_server = |file| match &config.certificate {
            Some(_) => Ok(identity.content(file).map(str::to_owned)),
            None => content(&identity, file).map(Some),
        };
        let client_ca = match config.client_ca.as_deref() {
            Some("none") => None,
            Some(name) => {
                let path = self.pki.trust(name)?;
                if path.exists() { Some(read(&path)?) } else { None }
            }
            None => Some(content(&*secret(&defaults.client_ca_secret)?, SecretFile::Ca)?),
        };
        let crl = config.crl.as_deref().map(|crl| read(&self.pki.crl(crl)?)).transpose()?;
        let mut files = ServerFiles {
            certificate: of_server(SecretFile::Certificate)?,
            key: of_server(SecretFile::Key)?,
            key_access: Some((identity.key_mode, owner(identity.key_owner))),
            client_ca,
            crl,
            ..ServerFiles::default()
        };
        if service == Service::Postgres {
            let names = &cluster(manifests)?.certificates;
            let replica = secret(&names.replication_tls)?;
            files.server_ca = Some(content(&*secret(&names.server_ca)?, SecretFile::Ca)?);
            files.replica_certificate = Some(content(&replica, SecretFile::Certificate)?);
            files.replica_key = Some(content(&replica, SecretFile::Key)?);
        }
        Ok(files)
    }
}

impl Configurator for ManifestConfigurator {
    fn files(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
        let manifests = self.pki.manifests();
        let mut files = configuration(manifests, &self.system_user, key, config, paths)?;
        files.extend(self.contents(key.service, config)?.files(key.service, &paths.certificates));
        Ok(files)
    }

    fn route(&self, service: Service) -> Option<TlsRoute> {
        self.pki.manifests().route(service).cloned()
    }

    fn application(&self) -> Application {
        self.pki.manifests().application()
    }
}

/// The name of the operating system's user that servers run as.
pub(super) fn system_user() -> String {
    let own = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
    RunAs::of_this_run().map(|user| user.name).or_else(own).unwrap_or_else(|| "postgres".to_owned())
}

/// What the certificate files of a server hold. `None`: there is no such file.
#[derive(Default)]
pub(super) struct ServerFiles {
    /// What the server presents.
    pub(super) certificate: Option<String>,
    /// The key of `certificate`.
    pub(super) key: Option<String>,
    /// The mode of the file of `key` and whose it is, where they differ from those that CloudNativePG gives it.
    pub(super) key_access: Option<(u32, FileOwner)>,
    /// What it verifies clients with.
    pub(super) client_ca: Option<String>,
    /// The revocation list that it looks clients up in.
    pub(super) crl: Option<String>,
    /// What replicas verify it with.
    pub(super) server_ca: Option<String>,
    /// What its replicas present.
    pub(super) replica_certificate: Option<String>,
    /// The key of `replica_certificate`.
    pub(super) replica_key: Option<String>,
}

impl ServerFiles {
    /// The files, in a server's directory of certificates.
    pub(super) fn files(self, service: Service, directory: &Path) -> Vec<ConfigFile> {
        let (certificate, key, client_ca) = match service {
            Service::Postgres => (postgres::SERVER_CERTIFICATE, postgres::SERVER_KEY, postgres::CLIENT_CA),
            Service::Redis => (redis_conf::SERVER_CERTIFICATE, redis_conf::SERVER_KEY, redis_conf::CLIENT_CA),
        };
        let files = [
            (certificate, self.certificate, 0o644),
            (client_ca, self.client_ca, 0o644),
            (postgres::CLIENT_CRL, self.crl, 0o644),
            (postgres::SERVER_CA, self.server_ca, 0o644),
            (postgres::REPLICA_CERTIFICATE, self.replica_certificate, 0o644),
            (postgres::REPLICA_KEY, self.replica_key, 0o600),
        ];
        let (mode, owner) = self.key_access.unwrap_or((0o600, FileOwner::Server));
        let key = self.key.map(|contents| ConfigFile { owner, ..ConfigFile::of_server(directory.join(key), contents, mode) });
        let files =
            files.into_iter().filter_map(|(name, contents, mode)| Some(ConfigFile::of_server(directory.join(name), contents?, mode)));
        files.chain(key).collect()
    }
}

/// The configuration files of a server: everything but certificates, keys and revocation lists.
pub(super) fn configuration(
    manifests: &Manifests,
    system_user: &str,
    key: ServerKey,
    config: &ServerConfig,
    paths: &Paths,
) -> Result<Vec<ConfigFile>, ConfigError> {
    match key.service {
        Service::Postgres => postgres_configuration(manifests, system_user, key, config, paths),
        Service::Redis => redis_configuration(manifests, config, paths),
    }
}

fn postgres_configuration(
    manifests: &Manifests,
    system_user: &str,
    key: ServerKey,
    config: &ServerConfig,
    paths: &Paths,
) -> Result<Vec<ConfigFile>, ConfigError> {
    cluster(manifests)?;
    let (hba_file, ident_file) = (paths.data.join(HBA_FILE), paths.data.join("pg_ident.conf"));
    let listen: Vec<String> = paths.listen.iter().map(ToString::to_string).collect();
    let places = postgres::PostgresPlaces {
        port: paths.port,
        listen_addresses: &listen.join(","),
        socket_directory: &paths.sockets,
        certificates: &paths.certificates,
        hba_file: &hba_file,
        ident_file: &ident_file,
        log_directory: &paths.logs,
        system_user,
        networks: &paths.networks,
    };
    let rendered = postgres::render(manifests, key.deployment, key.version.unwrap_or_default(), config, &places, paths.generation)?;
    Ok(vec![
        ConfigFile::of_server(paths.data.join("postgresql.conf"), rendered.postgresql_conf, 0o600),
        ConfigFile::of_server(hba_file, rendered.pg_hba_conf, 0o600),
        ConfigFile::of_server(ident_file, rendered.pg_ident_conf, 0o600),
    ])
}

fn redis_configuration(manifests: &Manifests, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
    let (password_file, log_file) = (paths.data.join(PASSWORD_FILE), paths.logs.join(paths.log_file));
    let bind: Vec<String> = paths.listen.iter().map(ToString::to_string).collect();
    let places = redis_conf::RedisPlaces {
        tls_port: paths.port,
        plaintext_port: paths.plaintext_port,
        bind: &bind.join(" "),
        directory: &paths.data,
        certificates: &paths.certificates,
        log_file: &log_file,
        password_file: Some(&password_file),
    };
    let rendered = redis_conf::render(manifests, config, &places)?;
    let password = format!("requirepass {}\n", paths.password.reveal());
    Ok(vec![ConfigFile::of_server(paths.data.join(REDIS_CONF), rendered, 0o600), ConfigFile::of_server(password_file, password, 0o600)])
}

/// The Cluster that a PostgreSQL is rendered from.
pub(super) fn cluster(manifests: &Manifests) -> Result<&Cluster, ConfigError> {
    manifests.cluster.as_ref().ok_or(ConfigError::NoCluster)
}

/// The Secrets of a service's server.
pub(super) fn defaults(manifests: &Manifests, service: Service) -> Result<ServiceDefaults, ConfigError> {
    match service {
        Service::Postgres => {
            cluster(manifests)?;
            manifests.postgres().ok_or(ConfigError::NoServerSecret)
        }
        Service::Redis => manifests.redis_defaults().ok_or(ConfigError::NoRedis),
    }
}

/// Whose a key is that a server is given.
fn owner(key: KeyOwner) -> FileOwner {
    match key {
        KeyOwner::Own => FileOwner::Server,
        KeyOwner::Other => FileOwner::Other,
        KeyOwner::Root => FileOwner::Root,
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_path_buf(), source: Arc::new(source) })
}

fn content(identity: &IssuedIdentity, file: SecretFile) -> Result<String, ConfigError> {
    identity.content(file).map(str::to_owned).ok_or_else(|| ConfigError::NoFile { identity: identity.name.clone(), file })
}
