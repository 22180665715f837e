//! A directory of Kubernetes objects, read and checked: fields, values and references, each error at its place.

use std::path::{Path, PathBuf};

use super::certificate::{Certificate, Issuer, Usage};
use super::cluster::Cluster;
use super::external_secret::ExternalSecret;
use super::gateway::{self, TlsRoute};
use super::objects::Objects;
use super::redis::Redis;
use super::secret::Secret;
use super::source::Source;
use super::{redis_workload, references};
use load::tree;
use load::yaml;
use load::{LoadError, Place};
use model::server::{Application, Service};

/// The deployment that the manifests describe.
#[derive(Debug, Clone)]
pub struct Manifests {
    /// The directory, as given.
    pub directory: PathBuf,
    /// Issuers and ClusterIssuers, in the files' order.
    pub issuers: Vec<Issuer>,
    /// Certificates, in the files' order.
    pub certificates: Vec<Certificate>,
    /// The PostgreSQL cluster, if there is one.
    pub cluster: Option<Cluster>,
    /// Redis, if it is there.
    pub redis: Option<Redis>,
    /// The ways through the gateway, at most one a service.
    pub routes: Vec<TlsRoute>,
    /// What makes the Secret of a site's workers, if it is there.
    pub site: Option<ExternalSecret>,
    /// The Secrets that stand in the files themselves, in their order.
    pub secrets: Vec<Secret>,
}

/// The folder below the manifests with what belongs into the cluster of a site.
const SITE: &str = "site";

impl Manifests {
    /// Reads every `*.yaml` and `*.yml` of a directory, in order of their names, and then those of its folder `site`, if it has one.
    ///
    /// # Errors
    /// [`LoadError`] for the first field, value or reference that is wrong or that a local environment can't follow.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let mut files = files_in(directory)?;
        let site = directory.join(SITE);
        if site.is_dir() {
            files.extend(files_in(&site)?);
        }
        let texts = files.into_iter().map(|file| yaml::read(&file).map(|text| (file, text))).collect::<Result<Vec<_>, _>>()?;
        Self::from_texts(directory, texts)
    }

    /// The same from texts with the names that errors give them.
    ///
    /// # Errors
    /// As [`Manifests::load`].
    pub fn from_texts(directory: &Path, texts: Vec<(PathBuf, String)>) -> Result<Self, LoadError> {
        let mut objects = Objects::default();
        for (file, text) in texts {
            for document in tree::documents(&file, &text)? {
                objects.add(Source { file: file.clone(), document })?;
            }
        }
        if objects.certificates.is_empty() && objects.cluster.is_none() && objects.config_maps.is_empty() {
            let message =
                "holds no Certificate, no Cluster and no ConfigMap with redis.conf: nothing to deploy (*.yaml and *.yml are read)";
            return Err(LoadError::new(Place::file(directory), message));
        }
        let redis = redis_workload::redis(&objects)?;
        references::check(&objects, redis.as_ref())?;
        if let Some(redis) = &redis {
            redis_workload::check_password(&objects, redis)?;
        }
        let routes = gateway::routes(&objects, redis.as_ref())?;
        Ok(Self {
            directory: directory.to_path_buf(),
            issuers: objects.issuers.into_iter().map(|(issuer, _)| issuer).collect(),
            certificates: objects.certificates.into_iter().map(|(certificate, _)| certificate).collect(),
            cluster: objects.cluster.map(|(cluster, _)| cluster),
            redis,
            routes,
            site: objects.site.map(|(external_secret, _)| external_secret),
            secrets: objects.secrets.into_iter().map(|(secret, _)| secret).collect(),
        })
    }

    /// A Certificate by its name.
    #[must_use]
    pub fn certificate(&self, name: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.name == name)
    }

    /// The Certificate that writes a Secret.
    #[must_use]
    pub fn certificate_of_secret(&self, secret: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| certificate.spec.secret_name == secret)
    }

    /// The Secret that stood in a Certificate's place before cert-manager wrote it; `None` if nobody applied one.
    #[must_use]
    pub fn secret_before(&self, certificate: &Certificate) -> Option<&Secret> {
        self.secrets.iter().find(|secret| secret.is_of(certificate))
    }

    /// The first Certificate that a client can authenticate with as this user of the database: of its name, and for clients.
    #[must_use]
    pub fn client_certificate_of(&self, user: &str) -> Option<&Certificate> {
        self.certificates.iter().find(|certificate| {
            certificate.spec.common_name.as_deref() == Some(user) && certificate.spec.usages.contains(&Usage::ClientAuth)
        })
    }

    /// An Issuer by its name.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.name == name)
    }

    /// What PostgreSQL's clients and servers use where a scenario names nothing; `None` without a Cluster.
    #[must_use]
    pub fn postgres(&self) -> Option<ServiceDefaults> {
        let cluster = self.cluster.as_ref()?;
        self.defaults(&cluster.certificates.server_tls, &cluster.certificates.client_ca)
    }

    /// The same for Redis; `None` without it.
    #[must_use]
    pub fn redis_defaults(&self) -> Option<ServiceDefaults> {
        let redis = self.redis.as_ref()?;
        self.defaults(&redis.server_tls, &redis.client_ca)
    }

    /// The way through the gateway to a service.
    #[must_use]
    pub fn route(&self, service: Service) -> Option<&TlsRoute> {
        self.routes.iter().find(|route| route.service == service)
    }

    /// The application's user and database, as `bootstrap.initdb` of the Cluster has them.
    #[must_use]
    pub fn application(&self) -> Application {
        self.cluster.as_ref().map_or_else(Application::default, |cluster| Application {
            user: cluster.initdb.owner().to_owned(),
            database: cluster.initdb.database().to_owned(),
        })
    }

    fn defaults(&self, server_secret: &str, client_ca_secret: &str) -> Option<ServiceDefaults> {
        let certificate = self.certificate_of_secret(server_secret)?;
        let host = certificate.spec.common_name.clone().or_else(|| certificate.spec.dns_names.first().cloned()).unwrap_or_default();
        Some(ServiceDefaults {
            server_certificate: certificate.name.clone(),
            server_secret: server_secret.to_owned(),
            client_ca_secret: client_ca_secret.to_owned(),
            host,
        })
    }
}

/// What a service's servers and clients use where a scenario names nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceDefaults {
    /// The Certificate of the server.
    pub server_certificate: String,
    /// The Secret that it is in.
    pub server_secret: String,
    /// The Secret whose `ca.crt` the server verifies clients with.
    pub client_ca_secret: String,
    /// The host name that clients ask for: the server certificate's common name, else its first DNS name.
    pub host: String,
}

/// The manifests directly in a directory, in order of their names.
fn files_in(directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let unreadable = |source| LoadError::new(Place::file(directory), format!("can't be read as a directory of manifests: {source}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.is_file() && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
