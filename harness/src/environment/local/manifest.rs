//! The servers' files from the deployment's manifests.

use std::path::Path;
use std::sync::Arc;

use super::{ConfigFile, Configurator, Paths};
use crate::deployment::gateway::TlsRoute;
use crate::deployment::{ServiceDefaults, postgres, redis_conf};
use crate::model::connect::Password;
use crate::model::credential::SecretFile;
use crate::model::server::{Application, ServerConfig, ServerKey, Service};
use crate::os::user::RunAs;
use crate::pki::{IssuedIdentity, Pki};

/// Redis' password, in a file of its own.
const PASSWORD_FILE: &str = "password.conf";

/// A [`Configurator`] that renders manifests and issues their certificates.
pub struct ManifestConfigurator {
    pki: Arc<Pki>,
    system_user: String,
}

impl ManifestConfigurator {
    /// For servers that run as the unprivileged user of this process.
    #[must_use]
    pub fn new(pki: Arc<Pki>) -> Self {
        let own = || nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().map(|user| user.name);
        let system_user = RunAs::unprivileged().map(|user| user.name).or_else(own).unwrap_or_else(|| "postgres".to_owned());
        Self { pki, system_user }
    }

    /// Certificate and key that the server presents, and the CA that it verifies clients with.
    fn server_files(&self, defaults: &ServiceDefaults, config: &ServerConfig) -> Result<(Arc<IssuedIdentity>, Option<String>), String> {
        let identity = match &config.certificate {
            Some(name) => self.pki.identity(name),
            None => self.pki.secret(&defaults.server_secret),
        };
        let ca = match config.client_ca.as_deref() {
            Some("none") => None,
            Some(name) => {
                let path = self.pki.trust(name).map_err(|error| error.to_string())?;
                Some(std::fs::read_to_string(&path).map_err(|error| format!("could not read {}: {error}", path.display()))?)
            }
            None => Some(content(&*self.pki.secret(&defaults.client_ca_secret).map_err(|error| error.to_string())?, SecretFile::Ca)?),
        };
        Ok((identity.map_err(|error| error.to_string())?, ca))
    }

    fn postgres(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, String> {
        let manifests = self.pki.manifests();
        let cluster = manifests.cluster.as_ref().ok_or_else(|| "the manifests have no Cluster".to_owned())?;
        let defaults = manifests.postgres().ok_or_else(|| "no Certificate writes the Cluster's serverTLSSecret".to_owned())?;
        let (hba_file, ident_file) = (paths.data.join("pg_hba.conf"), paths.data.join("pg_ident.conf"));
        let listen: Vec<String> = paths.listen.iter().map(ToString::to_string).collect();
        let places = postgres::PostgresPlaces {
            port: paths.port,
            listen_addresses: &listen.join(","),
            socket_directory: &paths.sockets,
            certificates: &paths.certificates,
            hba_file: &hba_file,
            ident_file: &ident_file,
            log_directory: &paths.logs,
            system_user: &self.system_user,
        };
        let rendered = postgres::render(manifests, key.deployment, key.version.unwrap_or_default(), config, &places, paths.generation);
        let (identity, ca) = self.server_files(&defaults, config)?;
        let in_certificates = |name: &str| paths.certificates.join(name);
        let mut files = vec![
            file(&paths.data.join("postgresql.conf"), rendered.postgresql_conf, 0o600),
            file(&hba_file, rendered.pg_hba_conf, 0o600),
            file(&ident_file, rendered.pg_ident_conf, 0o600),
            file(&in_certificates(postgres::SERVER_CERTIFICATE), content(&identity, SecretFile::Certificate)?, 0o644),
            file(&in_certificates(postgres::SERVER_KEY), content(&identity, SecretFile::Key)?, 0o600),
        ];
        files.extend(ca.map(|ca| file(&in_certificates(postgres::CLIENT_CA), ca, 0o644)));
        if let Some(crl) = &config.crl {
            let path = self.pki.crl(crl).map_err(|error| error.to_string())?;
            let text = std::fs::read_to_string(&path).map_err(|error| format!("could not read {}: {error}", path.display()))?;
            files.push(file(&in_certificates(postgres::CLIENT_CRL), text, 0o644));
        }
        let secret = |name: &str| self.pki.secret(name).map_err(|error| error.to_string());
        let server_ca = secret(&cluster.certificates.server_ca)?;
        files.push(file(&in_certificates(postgres::SERVER_CA), content(&server_ca, SecretFile::Ca)?, 0o644));
        let replica = secret(&cluster.certificates.replication_tls)?;
        files.push(file(&in_certificates(postgres::REPLICA_CERTIFICATE), content(&replica, SecretFile::Certificate)?, 0o644));
        files.push(file(&in_certificates(postgres::REPLICA_KEY), content(&replica, SecretFile::Key)?, 0o600));
        Ok(files)
    }

    fn redis(&self, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, String> {
        let manifests = self.pki.manifests();
        let defaults = manifests.redis_defaults().ok_or_else(|| "the manifests have no Redis".to_owned())?;
        let (password_file, log_file) = (paths.data.join(PASSWORD_FILE), paths.logs.join(paths.log_file));
        let bind: Vec<String> = paths.listen.iter().map(ToString::to_string).collect();
        let places = redis_conf::RedisPlaces {
            tls_port: paths.port,
            bind: &bind.join(" "),
            directory: &paths.data,
            certificates: &paths.certificates,
            log_file: &log_file,
            password_file: Some(&password_file),
        };
        let rendered = redis_conf::render(manifests, config, &places).map_err(|error| error.to_string())?;
        let (identity, ca) = self.server_files(&defaults, config)?;
        let in_certificates = |name: &str| paths.certificates.join(name);
        let mut files = vec![
            file(&paths.data.join("redis.conf"), rendered, 0o600),
            file(&password_file, password_line(&paths.password), 0o600),
            file(&in_certificates(redis_conf::SERVER_CERTIFICATE), content(&identity, SecretFile::Certificate)?, 0o644),
            file(&in_certificates(redis_conf::SERVER_KEY), content(&identity, SecretFile::Key)?, 0o600),
        ];
        files.extend(ca.map(|ca| file(&in_certificates(redis_conf::CLIENT_CA), ca, 0o644)));
        Ok(files)
    }
}

impl Configurator for ManifestConfigurator {
    fn files(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, String> {
        match key.service {
            Service::Postgres => self.postgres(key, config, paths),
            Service::Redis => self.redis(config, paths),
        }
    }

    fn route(&self, service: Service) -> Option<TlsRoute> {
        self.pki.manifests().route(service).cloned()
    }

    fn application(&self) -> Application {
        self.pki.manifests().application()
    }
}

fn file(path: &Path, contents: String, mode: u32) -> ConfigFile {
    ConfigFile { path: path.to_path_buf(), contents: contents.into_bytes(), mode }
}

fn content(identity: &IssuedIdentity, which: SecretFile) -> Result<String, String> {
    identity.content(which).map(str::to_owned).ok_or_else(|| format!("`{}` has no {}", identity.name, which.file_name()))
}

fn password_line(password: &Password) -> String {
    format!("requirepass {}\n", password.reveal())
}
