//! The Kubernetes objects of all documents by kind, their values checked one by one.

use serde::Deserialize;

use super::certificate::{Certificate, CertificateSpec, Issuer, IssuerKind, IssuerRef, IssuerRefKind};
use super::cluster::{Cluster, ClusterCertificates, InitDb, PostgresConfiguration};
use super::external_secret::{self, ExternalSecret};
use super::fields;
use super::hba;
use super::parameters;
use super::secret::{self, Secret};
use super::source::Source;
use super::workload::Workload;
use load::LoadError;
use load::tree::Node;
use model::duration;

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
    /// Routes of other kinds, which pass no TLS through.
    pub(super) other_routes: Vec<Source>,
    pub(super) site: Option<(ExternalSecret, Source)>,
    pub(super) secrets: Vec<(Secret, Source)>,
}

/// The kinds of the groups that are read here, with those that don't bear on how clients connect: a mistyped kind would be dropped, and the API
/// server knows no such object either. (cert-manager 1.21, CloudNativePG 1.30, Gateway API 1.5, External Secrets 2)
const KINDS: [(&str, &[&str]); 4] = [
    ("cert-manager.io", &["Certificate", "CertificateRequest", "ClusterIssuer", "Issuer"]),
    (
        "external-secrets.io",
        &["ClusterExternalSecret", "ClusterPushSecret", "ClusterSecretStore", "ExternalSecret", "PushSecret", "SecretStore"],
    ),
    (
        "gateway.networking.k8s.io",
        &[
            "BackendTLSPolicy",
            "GRPCRoute",
            "Gateway",
            "GatewayClass",
            "HTTPRoute",
            "ListenerSet",
            "ReferenceGrant",
            "TCPRoute",
            "TLSRoute",
            "UDPRoute",
        ],
    ),
    (
        "postgresql.cnpg.io",
        &[
            "Backup",
            "Cluster",
            "ClusterImageCatalog",
            "Database",
            "DatabaseRole",
            "FailoverQuorum",
            "ImageCatalog",
            "Pooler",
            "Publication",
            "ScheduledBackup",
            "Subscription",
        ],
    ),
];

impl Objects {
    /// Takes a document; one of a kind that says nothing about how clients connect is left out.
    pub(super) fn add(&mut self, source: Source) -> Result<(), LoadError> {
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
            ("", "Secret") => {
                self.secrets.push((secret::read(&source)?, source));
                Ok(())
            }
            ("", "ConfigMap") => {
                if source.tree().get(&["data", "redis.conf"]).is_some() {
                    self.config_maps.push(source);
                }
                Ok(())
            }
            ("apps", "StatefulSet" | "Deployment") => {
                let workload = Workload::read(&source);
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
            ("gateway.networking.k8s.io", "GRPCRoute" | "HTTPRoute" | "TCPRoute" | "UDPRoute") => {
                self.other_routes.push(source);
                Ok(())
            }
            (_, "List") => Err(source.error(&["kind"], "a List is not interpreted: write its items as documents separated by `---`")),
            _ => match KINDS.iter().find(|(known, _)| *known == group) {
                Some((_, kinds)) if !kinds.contains(&kind) => {
                    Err(source.error(&["kind"], format!("`{kind}` is no kind of {group}: {} are", kinds.join(", "))))
                }
                _ => Ok(()),
            },
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
        parameters::check(&source)?;
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
        hba::check(&source)?;
        let spec = source.parse::<Object>()?.spec;
        let pg_hba_place = |index: usize| source.at(&["spec", "postgresql", "pg_hba", &index.to_string()]);
        let cluster = Cluster {
            pg_hba_places: (0..spec.postgresql.pg_hba.len()).map(pg_hba_place).collect(),
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

/// The rules of cert-manager's webhook that bear on what is issued.
fn check_values(spec: &CertificateSpec, source: &Source) -> Result<(), LoadError> {
    let at = |field: &str, message: String| Err(source.error(&["spec", field], message));
    let length = |field: &str, text: Option<&String>| {
        text.map(|text| duration::duration(text).map_err(|error| source.error(&["spec", field], error.to_string()))).transpose()
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
        key.check_size().map_err(|error| source.error(&["spec", "privateKey", "size"], error.to_string()))?;
    }
    Ok(())
}
