//! What an installation is at a moment, apart from what runs: Certificates and Secrets, the Cluster, and the servers' configuration. From it
//! follow the servers' files.

use std::sync::Arc;
use std::time::SystemTime;

use super::super::configure::{ConfigFile, Paths};
use super::super::manifest::{self, HBA_FILE, ServerFiles};
use super::super::postgres::admin;
use super::operator::Operator;
use crate::error::{ChangeError, ConfigError, InstallError};
use deployment::Manifests;
use deployment::gateway::TlsRoute;
use model::change::{Change, Target};
use model::credential::SecretFile;
use model::server::{ServerConfig, ServerKey, Service};
use pki::CertManager;

/// Everything that a change can change before servers and clients are told of it.
pub(super) struct State {
    key: ServerKey,
    system_user: String,
    pub(super) cert_manager: CertManager,
    /// Where there is a Cluster in it.
    operator: Option<Operator>,
    config: ServerConfig,
    /// The revocation list, PEM.
    crl: Option<String>,
}

/// What is left to do of a change of state.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Remaining {
    /// Servers and clients see it only at the next sync.
    Nothing,
    /// Configuration files to write.
    Configuration,
    /// A moment to wait for.
    Until(SystemTime),
}

impl State {
    /// A new deployment, every Certificate issued.
    pub(super) fn new(manifests: &Arc<Manifests>, key: ServerKey, config: ServerConfig) -> Result<Self, InstallError> {
        // Credentials by name are other people's.
        for (field, is_set) in
            [("certificate", config.certificate.is_some()), ("client_ca", config.client_ca.is_some()), ("crl", config.crl.is_some())]
        {
            if is_set {
                return Err(InstallError::NamedCredential(field));
            }
        }
        manifest::defaults(manifests, key.service)?;
        let operator = match key.service {
            Service::Postgres => Some(Operator::new(manifest::cluster(manifests)?.certificates.clone())),
            Service::Redis => None,
        };
        let cert_manager = CertManager::new(manifests).map_err(ChangeError::from)?;
        Ok(Self { key, system_user: manifest::system_user(), cert_manager, operator, config, crl: None })
    }

    /// Makes a change; `None` for one that takes something that runs.
    pub(super) fn make(&mut self, change: &Change<String>) -> Option<Result<Remaining, ChangeError>> {
        let made = match change {
            Change::Renew(reissue) => self.cert_manager.renew(reissue),
            Change::Rekey(reissue) => self.cert_manager.rekey(reissue),
            Change::Overwrite(overwrite) => self.cert_manager.overwrite(overwrite),
            Change::DeleteSecret(secret) => self.cert_manager.delete_secret(secret),
            Change::Label(label) => self.cert_manager.label(label),
            Change::AwaitExpiry(certificate) => {
                return Some(self.cert_manager.end(certificate).map(Remaining::Until).map_err(ChangeError::from));
            }
            Change::PatchCluster(patch) => {
                let cert_manager = &self.cert_manager;
                let operator = self.operator.as_mut().ok_or(ChangeError::NoCluster(self.key));
                return Some(operator.and_then(|operator| operator.patch(patch, cert_manager)).map(|()| Remaining::Nothing));
            }
            Change::PgHba(lines) => return Some(self.configure(|config| config.pg_hba = Some(lines.clone()))),
            Change::Crl(crl) => {
                let list = self.cert_manager.crl(crl).map_err(ChangeError::from);
                return Some(list.and_then(|list| {
                    self.crl = Some(list);
                    // Only that there is one counts in the rendered files.
                    self.configure(|config| config.crl = Some(crl.issuer.clone()))
                }));
            }
            Change::DropCrl => {
                self.crl = None;
                return Some(self.configure(|config| config.crl = None));
            }
            Change::Reconcile
            | Change::Sync(_)
            | Change::Reload(_)
            | Change::Restart(_)
            | Change::Stop(_)
            | Change::Start(_)
            | Change::Disconnect(_)
            | Change::Pause(_)
            | Change::Resume(_)
            | Change::Kill(_)
            | Change::Cut(_)
            | Change::Mend(_)
            | Change::Push
            | Change::Refresh => return None,
        };
        Some(made.map(|()| Remaining::Nothing).map_err(ChangeError::from))
    }

    /// The Cluster's name, where there is one.
    pub(super) fn cluster_name(&self) -> Option<&str> {
        self.cert_manager.manifests().cluster.as_ref().map(|cluster| cluster.name.as_str())
    }

    /// The way through a gateway to a service.
    pub(super) fn route(&self, service: Service) -> Option<&TlsRoute> {
        self.cert_manager.manifests().route(service)
    }

    fn configure(&mut self, change: impl FnOnce(&mut ServerConfig)) -> Result<Remaining, ChangeError> {
        match self.key.service {
            Service::Postgres => {
                change(&mut self.config);
                Ok(Remaining::Configuration)
            }
            Service::Redis => Err(ChangeError::OnlyPostgres(self.key)),
        }
    }

    /// The operator looks at what changed: whether the servers' files are to be brought up to date.
    pub(super) fn look(&mut self) -> Result<bool, ChangeError> {
        let operator = self.operator.as_mut().ok_or(ChangeError::NoCluster(self.key))?;
        Ok(operator.look(&self.cert_manager))
    }

    /// The configuration files of the installation's server.
    pub(super) fn configuration(&self, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
        let manifests = self.cert_manager.manifests();
        let mut files = manifest::configuration(manifests, &self.system_user, self.key, &self.config, paths)?;
        for file in files.iter_mut().filter(|file| file.path == paths.data.join(HBA_FILE)) {
            file.contents.splice(0..0, admin::rules().into_bytes());
        }
        let crl = ServerFiles { crl: self.crl.clone(), ..ServerFiles::default() };
        files.extend(crl.files(self.key.service, &paths.certificates));
        Ok(files)
    }

    /// The certificates, keys and CAs of a server, from the Secrets as they are now.
    pub(super) fn certificates(&self, target: Target, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
        let content =
            |secret: &str, file: SecretFile| Ok::<_, ConfigError>(self.cert_manager.secret(secret)?.content(file).map(str::to_owned));
        let (service, files) = match (target, &self.operator) {
            (Target::Postgres | Target::Replica, Some(operator)) => {
                let names = operator.certificates();
                let files = ServerFiles {
                    certificate: content(&names.server_tls, SecretFile::Certificate)?,
                    key: content(&names.server_tls, SecretFile::Key)?,
                    client_ca: content(&names.client_ca, SecretFile::Ca)?,
                    server_ca: content(&names.server_ca, SecretFile::Ca)?,
                    replica_certificate: content(&names.replication_tls, SecretFile::Certificate)?,
                    replica_key: content(&names.replication_tls, SecretFile::Key)?,
                    key_access: None,
                    crl: None,
                };
                (Service::Postgres, files)
            }
            (Target::Redis, _) => {
                let names = manifest::defaults(self.cert_manager.manifests(), Service::Redis)?;
                let files = ServerFiles {
                    certificate: content(&names.server_secret, SecretFile::Certificate)?,
                    key: content(&names.server_secret, SecretFile::Key)?,
                    client_ca: content(&names.client_ca_secret, SecretFile::Ca)?,
                    ..ServerFiles::default()
                };
                (Service::Redis, files)
            }
            _ => return Err(ConfigError::NoServer(target)),
        };
        Ok(files.files(service, &paths.certificates))
    }
}
