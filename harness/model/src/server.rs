//! A server as a case asks for it: which process, and how it is configured.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// A PostgreSQL server; a scenario's default.
    Postgres,
    /// A Redis server, which knows neither `sslmode` nor `pg_hba.conf`.
    Redis,
}

/// How the servers' files are written around the user's own lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentKind {
    /// Exactly what the document shows and nothing else.
    Documented,
    /// As CloudNativePG writes them.
    Cnpg,
}

impl DeploymentKind {
    /// Both kinds, `documented` first.
    pub const ALL: [Self; 2] = [Self::Documented, Self::Cnpg];

    /// Its name in files and ids.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Documented => "documented",
            Self::Cnpg => "cnpg",
        }
    }
}

impl fmt::Display for DeploymentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The application's user and database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The user who owns the database.
    pub user: String,
    /// The database that `bootstrap.initdb` makes.
    pub database: String,
}

impl Default for Application {
    /// CloudNativePG's defaults where `bootstrap.initdb` names neither.
    fn default() -> Self {
        Self { user: "app".to_owned(), database: "app".to_owned() }
    }
}

/// The server process that a case needs. One process serves all cases of a key; its configuration changes by reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServerKey {
    /// Whether it is a PostgreSQL or a Redis server.
    pub service: Service,
    /// PostgreSQL's major version; `None` for Redis.
    pub version: Option<u16>,
    /// How its files are written.
    pub deployment: DeploymentKind,
}

impl fmt::Display for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.service {
            Service::Postgres => write!(f, "postgres-{}-{}", self.version.unwrap_or_default(), self.deployment),
            Service::Redis => write!(f, "redis-{}", self.deployment),
        }
    }
}

/// What a scenario changes of the deployment's own configuration. Equal values are one fingerprint: such cases run together.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServerConfig {
    /// The user's pg_hba lines, in place of the Cluster's.
    pub pg_hba: Option<Vec<String>>,
    /// Settings of postgresql.conf or redis.conf that replace the deployment's, by name.
    pub settings: BTreeMap<String, String>,
    /// The identity whose certificate and key the server presents, in place of the deployment's.
    pub certificate: Option<String>,
    /// The trust that fills `ssl_ca_file`; `Some("none")` empties it.
    pub client_ca: Option<String>,
    /// The revocation list for `ssl_crl_file`.
    pub crl: Option<String>,
}
