//! Which fields of an object are followed, which don't bear on how clients connect, and which are known but can't be followed here.

use std::path::Path;

use load::tree::Tree;
use load::{LoadError, Place};

/// The fields of one level of an object.
struct Fields {
    /// What the object is called in messages.
    of: &'static str,
    /// Fields that decide what is made, and are followed.
    interpreted: &'static [&'static str],
    /// Without bearing on how clients connect.
    ignored: &'static [&'static str],
    /// Fields of the real type that would change the result, and that only the real controller can follow.
    refused: &'static [&'static str],
}

/// `spec` of a Certificate (cert-manager 1.21).
const CERTIFICATE: Fields = Fields {
    of: "a Certificate's spec",
    interpreted: &[
        "commonName",
        "dnsNames",
        "duration",
        "emailAddresses",
        "ipAddresses",
        "isCA",
        "issuerRef",
        "privateKey",
        "renewBefore",
        "renewBeforePercentage",
        "secretName",
        "secretTemplate",
        "subject",
        "uris",
        "usages",
    ],
    ignored: &["revisionHistoryLimit"],
    refused: &[
        "additionalOutputFormats",
        "encodeUsagesInRequest",
        "keystores",
        "literalSubject",
        "nameConstraints",
        "otherNames",
        "signatureAlgorithm",
    ],
};

/// `spec` of an Issuer.
const ISSUER: Fields =
    Fields { of: "an Issuer's spec", interpreted: &["ca", "selfSigned"], ignored: &[], refused: &["acme", "vault", "venafi"] };

/// `spec.ca` of an Issuer.
const ISSUER_CA: Fields = Fields {
    of: "an Issuer's spec.ca",
    interpreted: &["secretName"],
    ignored: &[],
    refused: &["crlDistributionPoints", "issuingCertificateURLs", "ocspServers"],
};

/// `spec.selfSigned` of an Issuer.
const ISSUER_SELF_SIGNED: Fields =
    Fields { of: "an Issuer's spec.selfSigned", interpreted: &[], ignored: &[], refused: &["crlDistributionPoints"] };

/// `spec` of a Cluster (CloudNativePG 1.30).
const CLUSTER: Fields = Fields {
    of: "a Cluster's spec",
    interpreted: &["bootstrap", "certificates", "postgresql"],
    ignored: &[
        "affinity",
        "backup",
        "description",
        "enablePDB",
        "enableSuperuserAccess",
        "env",
        "envFrom",
        "ephemeralVolumeSource",
        "ephemeralVolumesSizeLimit",
        "externalClusters",
        "failoverDelay",
        "imageCatalogRef",
        "imageName",
        "imagePullPolicy",
        "imagePullSecrets",
        "inheritedMetadata",
        "instances",
        "livenessProbeTimeout",
        "logLevel",
        "managed",
        "maxSyncReplicas",
        "minSyncReplicas",
        "monitoring",
        "nodeMaintenanceWindow",
        "plugins",
        "podSecurityContext",
        "podSelectorRefs",
        "postgresGID",
        "postgresUID",
        "primaryUpdateMethod",
        "primaryUpdateStrategy",
        "priorityClassName",
        "probes",
        "projectedVolumeTemplate",
        "replicationSlots",
        "resources",
        "schedulerName",
        "seccompProfile",
        "securityContext",
        "serviceAccountName",
        "serviceAccountTemplate",
        "smartShutdownTimeout",
        "startDelay",
        "stopDelay",
        "storage",
        "superuserSecret",
        "switchoverDelay",
        "tablespaces",
        "topologySpreadConstraints",
        "walStorage",
    ],
    refused: &["replica"],
};

/// `spec.certificates` of a Cluster.
const CLUSTER_CERTIFICATES: Fields = Fields {
    of: "a Cluster's spec.certificates",
    interpreted: &["clientCASecret", "replicationTLSSecret", "serverCASecret", "serverTLSSecret"],
    ignored: &[],
    refused: &["serverAltDNSNames"],
};

/// `spec.postgresql` of a Cluster.
const CLUSTER_POSTGRESQL: Fields = Fields {
    of: "a Cluster's spec.postgresql",
    interpreted: &["parameters", "pg_hba", "pg_ident"],
    ignored: &[
        "enableAlterSystem",
        "extensions",
        "promotionTimeout",
        "shared_preload_libraries",
        "syncReplicaElectionConstraint",
        "synchronous",
    ],
    refused: &["ldap"],
};

/// `spec.bootstrap` of a Cluster.
const CLUSTER_BOOTSTRAP: Fields =
    Fields { of: "a Cluster's spec.bootstrap", interpreted: &["initdb"], ignored: &[], refused: &["pg_basebackup", "recovery"] };

/// `spec.bootstrap.initdb` of a Cluster.
const CLUSTER_INITDB: Fields = Fields {
    of: "a Cluster's spec.bootstrap.initdb",
    interpreted: &["database", "owner"],
    ignored: &[
        "builtinLocale",
        "dataChecksums",
        "encoding",
        "icuLocale",
        "icuRules",
        "import",
        "locale",
        "localeCType",
        "localeCollate",
        "localeProvider",
        "options",
        "postInitApplicationSQL",
        "postInitApplicationSQLRefs",
        "postInitSQL",
        "postInitSQLRefs",
        "postInitTemplateSQL",
        "postInitTemplateSQLRefs",
        "secret",
        "walSegmentSize",
    ],
    refused: &[],
};

/// `spec` of a Gateway (Gateway API 1.5).
const GATEWAY: Fields = Fields {
    of: "a Gateway's spec",
    interpreted: &["listeners"],
    ignored: &["addresses", "allowedListeners", "defaultScope", "gatewayClassName", "infrastructure"],
    refused: &["tls"],
};

/// One of `spec.listeners` of a Gateway that a TLSRoute is attached to.
const LISTENER: Fields = Fields {
    of: "a Gateway's listener",
    interpreted: &["allowedRoutes", "hostname", "name", "port", "protocol", "tls"],
    ignored: &[],
    refused: &[],
};

/// `tls` of such a listener.
const LISTENER_TLS: Fields =
    Fields { of: "a listener's tls", interpreted: &["mode"], ignored: &[], refused: &["certificateRefs", "frontendValidation", "options"] };

/// `allowedRoutes` of such a listener.
const LISTENER_ROUTES: Fields =
    Fields { of: "a listener's allowedRoutes", interpreted: &["kinds", "namespaces"], ignored: &[], refused: &[] };

/// `allowedRoutes.namespaces` of such a listener.
const LISTENER_NAMESPACES: Fields =
    Fields { of: "a listener's allowedRoutes.namespaces", interpreted: &["from"], ignored: &[], refused: &["selector"] };

/// `spec` of a TLSRoute (Gateway API 1.5).
const TLS_ROUTE: Fields =
    Fields { of: "a TLSRoute's spec", interpreted: &["hostnames", "parentRefs", "rules"], ignored: &["useDefaultGateways"], refused: &[] };

/// The one of `spec.parentRefs` of a TLSRoute.
const PARENT_REF: Fields = Fields {
    of: "a TLSRoute's parentRefs",
    interpreted: &["name", "namespace", "sectionName"],
    ignored: &["group", "kind"],
    refused: &["port"],
};

/// The one of `spec.rules` of a TLSRoute.
const ROUTE_RULE: Fields = Fields { of: "a TLSRoute's rules", interpreted: &["backendRefs"], ignored: &["name"], refused: &[] };

/// The one of its `backendRefs`.
const BACKEND_REF: Fields = Fields {
    of: "a TLSRoute's backendRefs",
    interpreted: &["name", "port"],
    ignored: &["group", "kind", "weight"],
    refused: &["namespace"],
};

/// `spec` of an ExternalSecret (External Secrets 2).
const EXTERNAL_SECRET: Fields = Fields {
    of: "an ExternalSecret's spec",
    interpreted: &["dataFrom", "refreshInterval", "target"],
    ignored: &["secretStoreRef"],
    refused: &["data", "refreshPolicy", "syncWindows"],
};

/// `spec.target` of an ExternalSecret.
const EXTERNAL_SECRET_TARGET: Fields = Fields {
    of: "an ExternalSecret's spec.target",
    interpreted: &["name", "template"],
    ignored: &["creationPolicy", "deletionPolicy"],
    refused: &["immutable", "manifest"],
};

/// `spec.target.template` of an ExternalSecret. There is one version of the engine.
const EXTERNAL_SECRET_TEMPLATE: Fields = Fields {
    of: "an ExternalSecret's spec.target.template",
    interpreted: &["data", "type"],
    ignored: &["engineVersion", "metadata"],
    refused: &["mergePolicy", "templateFrom"],
};

/// An item of `spec.dataFrom` of an ExternalSecret.
const EXTERNAL_SECRET_DATA_FROM: Fields =
    Fields { of: "an ExternalSecret's spec.dataFrom", interpreted: &["extract", "rewrite"], ignored: &[], refused: &["find", "sourceRef"] };

/// `extract` of such an item.
const EXTERNAL_SECRET_EXTRACT: Fields = Fields {
    of: "an ExternalSecret's spec.dataFrom.extract",
    interpreted: &["key"],
    ignored: &["metadataPolicy"],
    refused: &["conversionStrategy", "decodingStrategy", "nullBytePolicy", "property", "version"],
};

/// An item of `rewrite` of such an item.
const EXTERNAL_SECRET_REWRITE: Fields =
    Fields { of: "an ExternalSecret's spec.dataFrom.rewrite", interpreted: &["regexp"], ignored: &[], refused: &["merge", "transform"] };

/// Checks a Certificate's fields.
pub(super) fn check_certificate(file: &Path, tree: &Tree) -> Result<(), LoadError> {
    CERTIFICATE.check(file, tree, &["spec"])
}

/// Checks an Issuer's fields.
pub(super) fn check_issuer(file: &Path, tree: &Tree) -> Result<(), LoadError> {
    ISSUER.check(file, tree, &["spec"])?;
    ISSUER_CA.check(file, tree, &["spec", "ca"])?;
    ISSUER_SELF_SIGNED.check(file, tree, &["spec", "selfSigned"])
}

/// Checks a Cluster's fields.
pub(super) fn check_cluster(file: &Path, tree: &Tree) -> Result<(), LoadError> {
    CLUSTER.check(file, tree, &["spec"])?;
    CLUSTER_CERTIFICATES.check(file, tree, &["spec", "certificates"])?;
    CLUSTER_POSTGRESQL.check(file, tree, &["spec", "postgresql"])?;
    CLUSTER_BOOTSTRAP.check(file, tree, &["spec", "bootstrap"])?;
    CLUSTER_INITDB.check(file, tree, &["spec", "bootstrap", "initdb"])
}

/// Checks a Gateway's fields, those of its listeners aside.
pub(super) fn check_gateway(file: &Path, tree: &Tree) -> Result<(), LoadError> {
    GATEWAY.check(file, tree, &["spec"])
}

/// Checks the fields of a Gateway's listener, by its place among them.
pub(super) fn check_listener(file: &Path, tree: &Tree, index: &str) -> Result<(), LoadError> {
    LISTENER.check(file, tree, &["spec", "listeners", index])?;
    LISTENER_TLS.check(file, tree, &["spec", "listeners", index, "tls"])?;
    LISTENER_ROUTES.check(file, tree, &["spec", "listeners", index, "allowedRoutes"])?;
    LISTENER_NAMESPACES.check(file, tree, &["spec", "listeners", index, "allowedRoutes", "namespaces"])
}

/// Checks a TLSRoute's fields.
pub(super) fn check_tls_route(file: &Path, tree: &Tree) -> Result<(), LoadError> {
    TLS_ROUTE.check(file, tree, &["spec"])?;
    PARENT_REF.check(file, tree, &["spec", "parentRefs", "0"])?;
    ROUTE_RULE.check(file, tree, &["spec", "rules", "0"])?;
    BACKEND_REF.check(file, tree, &["spec", "rules", "0", "backendRefs", "0"])
}

/// Checks an ExternalSecret's fields.
pub(super) fn check_external_secret(file: &Path, tree: &Tree) -> Result<(), LoadError> {
    EXTERNAL_SECRET.check(file, tree, &["spec"])?;
    EXTERNAL_SECRET_TARGET.check(file, tree, &["spec", "target"])?;
    EXTERNAL_SECRET_TEMPLATE.check(file, tree, &["spec", "target", "template"])?;
    for item in tree.items_at(&["spec", "dataFrom"]) {
        EXTERNAL_SECRET_DATA_FROM.check(file, item, &[])?;
        EXTERNAL_SECRET_EXTRACT.check(file, item, &["extract"])?;
        for rewrite in item.items_at(&["rewrite"]) {
            EXTERNAL_SECRET_REWRITE.check(file, rewrite, &[])?;
        }
    }
    Ok(())
}

impl Fields {
    fn check(&self, file: &Path, tree: &Tree, path: &[&str]) -> Result<(), LoadError> {
        let Some(level) = tree.get(path) else { return Ok(()) };
        for entry in level.entries() {
            let key = entry.key.as_str();
            if self.interpreted.contains(&key) || self.ignored.contains(&key) {
                continue;
            }
            let followed = if self.interpreted.is_empty() {
                "it takes none".to_owned()
            } else {
                format!("it follows {}", self.interpreted.join(", "))
            };
            let message = if self.refused.contains(&key) {
                format!("`{key}` of {} is not interpreted by the local environment: {followed}", self.of)
            } else {
                format!("`{key}` is no field of {} that the local environment knows: {followed}", self.of)
            };
            return Err(LoadError::new(Place::at(file, entry.position), message));
        }
        Ok(())
    }
}
