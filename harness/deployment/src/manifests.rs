//! A directory of Kubernetes objects, read and checked: fields, values and references, each error at its place.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::certificate::{Certificate, CertificateSpec, Issuer, IssuerKind, IssuerRef, IssuerRefKind, Usage};
use super::cluster::{Cluster, ClusterCertificates, InitDb, PostgresConfiguration};
use super::external_secret::{self, ExternalSecret};
use super::gateway::{self, TlsRoute};
use super::redis::Redis;
use super::workload::{self, Workload};
use super::{fields, references};
use load::tree::{self, Document, Node, Tree};
use load::yaml;
use load::{LoadError, Place};
use model::duration;
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
}

/// A document with the file it came from.
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) document: Document,
}

impl Source {
    /// The place of a value.
    pub(super) fn at(&self, path: &[&str]) -> Place {
        Place::at(&self.file, self.document.tree.position_of(path))
    }

    /// An error at a value.
    pub(super) fn error(&self, path: &[&str], message: impl Into<String>) -> LoadError {
        LoadError::new(self.at(path), message)
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.document.tree
    }

    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        self.tree().text_at(path)
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, LoadError> {
        yaml::one(&self.file, &self.document.text)
    }

    pub(super) fn name(&self) -> Result<String, LoadError> {
        match self.text(&["metadata", "name"]) {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(self.error(&["metadata"], "`metadata.name` is missing")),
        }
    }

    pub(super) fn namespace(&self) -> Option<String> {
        self.text(&["metadata", "namespace"]).map(str::to_owned)
    }
}

/// Objects while they are read, with where they came from.
#[derive(Default)]
pub(super) struct Objects {
    pub(super) issuers: Vec<(Issuer, Source)>,
    pub(super) certificates: Vec<(Certificate, Source)>,
    pub(super) cluster: Option<(Cluster, Source)>,
    pub(super) config_maps: Vec<Source>,
    pub(super) workloads: Vec<(Workload, Source)>,
    pub(super) services: Vec<Source>,
    pub(super) gateways: Vec<Source>,
    pub(super) tls_routes: Vec<Source>,
    pub(super) site: Option<(ExternalSecret, Source)>,
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
        let redis = workload::redis(&objects)?;
        references::check(&objects, redis.as_ref())?;
        let routes = gateway::routes(&objects, redis.as_ref())?;
        Ok(Self {
            directory: directory.to_path_buf(),
            issuers: objects.issuers.into_iter().map(|(issuer, _)| issuer).collect(),
            certificates: objects.certificates.into_iter().map(|(certificate, _)| certificate).collect(),
            cluster: objects.cluster.map(|(cluster, _)| cluster),
            redis,
            routes,
            site: objects.site.map(|(external_secret, _)| external_secret),
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

impl Objects {
    fn add(&mut self, source: Source) -> Result<(), LoadError> {
        let Some(kind) = source.text(&["kind"]) else {
            return Err(source.error(&[], "`kind` is missing: every document must be a Kubernetes object"));
        };
        let api = source.text(&["apiVersion"]).unwrap_or_default();
        let group = api.split_once('/').map_or("", |(group, _)| group);
        match (group, kind) {
            ("cert-manager.io", "Issuer" | "ClusterIssuer" | "Certificate") if api != "cert-manager.io/v1" => {
                Err(source.error(&["apiVersion"], format!("`{api}` is not interpreted: cert-manager.io/v1 is")))
            }
            ("cert-manager.io", "Issuer" | "ClusterIssuer") => self.add_issuer(source),
            ("cert-manager.io", "Certificate") => self.add_certificate(source),
            ("postgresql.cnpg.io", "Cluster") => self.add_cluster(source),
            ("", "ConfigMap") => {
                if source.tree().get(&["data", "redis.conf"]).is_some() {
                    self.config_maps.push(source);
                }
                Ok(())
            }
            ("apps", "StatefulSet" | "Deployment") => {
                let workload = Workload::from_tree(source.tree());
                self.workloads.push((workload, source));
                Ok(())
            }
            ("", "Service") => {
                self.services.push(source);
                Ok(())
            }
            ("gateway.networking.k8s.io", "Gateway") => {
                self.gateways.push(source);
                Ok(())
            }
            ("gateway.networking.k8s.io", "TLSRoute") => {
                self.tls_routes.push(source);
                Ok(())
            }
            ("external-secrets.io", "ExternalSecret") if external_secret::makes_tls_secret(&source) => self.add_external_secret(source),
            (_, "List") => Err(source.error(&["kind"], "a List is not interpreted: write its items as documents separated by `---`")),
            _ => Ok(()),
        }
    }

    fn add_issuer(&mut self, source: Source) -> Result<(), LoadError> {
        #[derive(Deserialize)]
        struct Object {
            spec: Spec,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Spec {
            self_signed: Option<SelfSigned>,
            ca: Option<Ca>,
        }
        #[derive(Deserialize)]
        struct SelfSigned {}
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Ca {
            secret_name: String,
        }
        fields::check_issuer(&source.file, source.tree())?;
        let name = source.name()?;
        let object: Object = source.parse()?;
        let kind = match (object.spec.self_signed, object.spec.ca) {
            (Some(SelfSigned {}), None) => IssuerKind::SelfSigned,
            (None, Some(ca)) => IssuerKind::Ca { secret: ca.secret_name },
            _ => {
                return Err(
                    source.error(&["spec"], "an Issuer's spec holds exactly one of `selfSigned: {}` and `ca: {secretName: ...}` here")
                );
            }
        };
        if let Some((_, first)) = self.issuers.iter().find(|(issuer, _)| issuer.name == name) {
            return Err(source
                .error(&["metadata", "name"], format!("a second Issuer `{name}`: the first is at {}", first.at(&["metadata", "name"]))));
        }
        let cluster = source.text(&["kind"]) == Some("ClusterIssuer");
        let issuer = Issuer { name, namespace: source.namespace(), cluster, kind, place: source.at(&["metadata", "name"]) };
        self.issuers.push((issuer, source));
        Ok(())
    }

    fn add_certificate(&mut self, source: Source) -> Result<(), LoadError> {
        #[derive(Deserialize)]
        struct Object {
            spec: CertificateSpec,
        }
        fields::check_certificate(&source.file, source.tree())?;
        let name = source.name()?;
        let group = ["spec", "issuerRef", "group"];
        if let Some(external) = source.text(&group).filter(|group| *group != "cert-manager.io") {
            let message =
                format!("`{external}` is an external issuer's group, which the local environment does not interpret: cert-manager.io is");
            return Err(source.error(&group, message));
        }
        let spec = source.parse::<Object>()?.spec;
        check_values(&spec, &source)?;
        if let Some((_, first)) = self.certificates.iter().find(|(certificate, _)| certificate.name == name) {
            return Err(source.error(
                &["metadata", "name"],
                format!("a second Certificate `{name}`: the first is at {}", first.at(&["metadata", "name"])),
            ));
        }
        let certificate = Certificate { name, namespace: source.namespace(), spec, place: source.at(&["metadata", "name"]) };
        self.certificates.push((certificate, source));
        Ok(())
    }

    fn add_cluster(&mut self, source: Source) -> Result<(), LoadError> {
        #[derive(Deserialize)]
        struct Object {
            spec: Spec,
        }
        #[derive(Deserialize)]
        struct Spec {
            certificates: ClusterCertificates,
            #[serde(default)]
            postgresql: PostgresConfiguration,
            #[serde(default)]
            bootstrap: Bootstrap,
        }
        #[derive(Default, Deserialize)]
        struct Bootstrap {
            #[serde(default)]
            initdb: InitDb,
        }
        fields::check_cluster(&source.file, source.tree())?;
        let name = source.name()?;
        if let Some((first, place)) = &self.cluster {
            let message = format!(
                "a second Cluster `{name}`: one is tested at a time, and `{}` is at {}",
                first.name,
                place.at(&["metadata", "name"])
            );
            return Err(source.error(&["metadata", "name"], message));
        }
        for (field, without) in [
            ("serverTLSSecret", "CloudNativePG makes a server certificate of its own, which the local environment does not interpret"),
            ("serverCASecret", "CloudNativePG uses a CA of its own, which the local environment does not interpret"),
            ("clientCASecret", "CloudNativePG trusts only clients of a CA of its own, which the local environment does not interpret"),
            ("replicationTLSSecret", "CloudNativePG looks for `ca.key` in the clientCASecret, which cert-manager does not write there"),
        ] {
            if source.text(&["spec", "certificates", field]).is_none() {
                let message = format!("`certificates.{field}` is missing: without it {without}");
                return Err(source.error(&["spec", "certificates"], message));
            }
        }
        for field in ["pg_hba", "pg_ident"] {
            let path = ["spec", "postgresql", field];
            let lines = source.tree().get(&path);
            if lines.is_some_and(|lines| !matches!(lines.node, Node::Sequence(_)) || lines.items().iter().any(|line| line.text().is_none()))
            {
                return Err(source.error(&path, format!("`{field}` must be a list with one line of the file an item")));
            }
        }
        let spec = source.parse::<Object>()?.spec;
        let cluster = Cluster {
            name,
            namespace: source.namespace(),
            certificates: spec.certificates,
            postgresql: spec.postgresql,
            initdb: spec.bootstrap.initdb,
            place: source.at(&["metadata", "name"]),
        };
        self.cluster = Some((cluster, source));
        Ok(())
    }

    fn add_external_secret(&mut self, source: Source) -> Result<(), LoadError> {
        let name = source.name()?;
        if let Some((first, place)) = &self.site {
            let message = format!(
                "a second ExternalSecret for a Secret with a certificate, `{name}`: one site is tested at a time, and `{}` is at {}",
                first.name,
                place.at(&["metadata", "name"])
            );
            return Err(source.error(&["metadata", "name"], message));
        }
        self.site = Some((external_secret::read(&source, name)?, source));
        Ok(())
    }

    /// The Issuer that a Certificate names.
    pub(super) fn issuer_for(&self, reference: &IssuerRef) -> Option<&Issuer> {
        let cluster = reference.kind == IssuerRefKind::ClusterIssuer;
        self.issuers.iter().map(|(issuer, _)| issuer).find(|issuer| issuer.name == reference.name && issuer.cluster == cluster)
    }
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

/// The rules of cert-manager's webhook that bear on what is issued.
fn check_values(spec: &CertificateSpec, source: &Source) -> Result<(), LoadError> {
    let at = |field: &str, message: String| Err(source.error(&["spec", field], message));
    let length = |field: &str, text: Option<&String>| {
        text.map(|text| duration::duration(text).map_err(|message| source.error(&["spec", field], message))).transpose()
    };
    if spec.common_name.is_none()
        && spec.dns_names.is_empty()
        && spec.ip_addresses.is_empty()
        && spec.uris.is_empty()
        && spec.email_addresses.is_empty()
    {
        return at("", "at least one of commonName, dnsNames, ipAddresses, uris, emailAddresses must be set".to_owned());
    }
    if spec.common_name.as_ref().is_some_and(|name| name.chars().count() > 64) {
        return at("commonName", "a commonName has at most 64 characters".to_owned());
    }
    let lifetime = length("duration", spec.duration.as_ref())?.unwrap_or(super::DEFAULT_DURATION);
    if lifetime < std::time::Duration::from_secs(3600) {
        return at("duration", "cert-manager refuses a duration below 1h".to_owned());
    }
    if let Some(before) = length("renewBefore", spec.renew_before.as_ref())? {
        if spec.renew_before_percentage.is_some() {
            return at("renewBeforePercentage", "only one of renewBefore and renewBeforePercentage can be set".to_owned());
        }
        if before >= lifetime {
            return at("renewBefore", "renewBefore must be shorter than the duration (2160h if it is not given)".to_owned());
        }
    }
    if let Some(key) = &spec.private_key {
        key.check_size().map_err(|message| source.error(&["spec", "privateKey", "size"], message))?;
    }
    Ok(())
}
