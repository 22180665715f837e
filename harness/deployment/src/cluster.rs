//! CloudNativePG's Cluster (`postgresql.cnpg.io/v1`), as far as it decides how clients connect.

use std::collections::BTreeMap;

use serde::Deserialize;

use load::Place;

/// A PostgreSQL cluster that CloudNativePG would run.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// `metadata.name` of the Cluster.
    pub name: String,
    /// `metadata.namespace`; `None`: the one that it is applied to.
    pub namespace: Option<String>,
    /// The four certificate fields.
    pub certificates: ClusterCertificates,
    /// Its settings, and the user's lines of `pg_hba.conf` and `pg_ident.conf`.
    pub postgresql: PostgresConfiguration,
    /// The application's database and its owner.
    pub initdb: InitDb,
    /// The file, line and column of its name.
    pub place: Place,
    /// Those of each item of `pg_hba`.
    pub pg_hba_places: Vec<Place>,
}

/// `spec.certificates`. All four are required here: without them CloudNativePG makes certificates of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterCertificates {
    /// The server's certificate and key.
    #[serde(rename = "serverTLSSecret")]
    pub server_tls: String,
    /// Its `ca.crt` goes to `server-ca.crt`, for replicas and the operator; never to clients.
    #[serde(rename = "serverCASecret")]
    pub server_ca: String,
    /// Its `ca.crt` goes to `client-ca.crt`, which is `ssl_ca_file`.
    #[serde(rename = "clientCASecret")]
    pub client_ca: String,
    /// The certificate of the user `streaming_replica`.
    #[serde(rename = "replicationTLSSecret")]
    pub replication_tls: String,
}

/// `spec.postgresql`. Fields that are not here are ignored or refused by `fields.rs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PostgresConfiguration {
    /// Settings. Those that bear on connections are written, the others left to a small local server's own.
    pub parameters: BTreeMap<String, String>,
    /// The user's lines, which CloudNativePG writes between its own.
    pub pg_hba: Vec<String>,
    /// The user's maps, which CloudNativePG writes after its own.
    pub pg_ident: Vec<String>,
}

/// `spec.bootstrap.initdb`: of it, the application's database and its owner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct InitDb {
    database: Option<String>,
    owner: Option<String>,
}

impl InitDb {
    /// The application's database; `app` if absent.
    #[must_use]
    pub fn database(&self) -> &str {
        self.database.as_deref().unwrap_or("app")
    }

    /// Its owner; the database's name if absent.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.owner.as_deref().unwrap_or_else(|| self.database())
    }
}
