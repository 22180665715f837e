//! `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf` of a local server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use super::Manifests;
use model::network::{Networks, NoNetwork};
use model::server::{DeploymentKind, ServerConfig};

/// The server's certificate, in the directory of certificates. The names are CloudNativePG's.
pub const SERVER_CERTIFICATE: &str = "server.crt";
/// The key of [`SERVER_CERTIFICATE`].
pub const SERVER_KEY: &str = "server.key";
/// What client certificates are verified with: `ssl_ca_file`.
pub const CLIENT_CA: &str = "client-ca.crt";
/// What replicas and the operator verify the server with; PostgreSQL itself does not read it.
pub const SERVER_CA: &str = "server-ca.crt";
/// The certificate of the user `streaming_replica`.
pub const REPLICA_CERTIFICATE: &str = "streaming_replica.crt";
/// The key of [`REPLICA_CERTIFICATE`].
pub const REPLICA_KEY: &str = "streaming_replica.key";
/// The revocation list, where a scenario has one: `ssl_crl_file`. (Ours: CloudNativePG has none.)
pub const CLIENT_CRL: &str = "client.crl";
/// The log below the log directory.
pub const LOG_FILE: &str = "postgresql.json";
/// The setting that changes with every configuration, so that the log shows when a reload took effect.
pub const GENERATION: &str = "mtls_conformance.generation";

/// Where the local server's files are, and what it listens on.
#[derive(Debug, Clone, Copy)]
pub struct PostgresPlaces<'a> {
    /// The TCP port, which also names the unix socket.
    pub port: u16,
    /// `listen_addresses`, such as `127.0.0.1,::1`.
    pub listen_addresses: &'a str,
    /// The directory of the unix socket.
    pub socket_directory: &'a Path,
    /// The directory of [`SERVER_CERTIFICATE`] and its like.
    pub certificates: &'a Path,
    /// The path of `pg_hba.conf`, for `hba_file`.
    pub hba_file: &'a Path,
    /// The path of `pg_ident.conf`, for `ident_file`.
    pub ident_file: &'a Path,
    /// The directory of [`LOG_FILE`].
    pub log_directory: &'a Path,
    /// The operating system user that the server runs as: `local` maps it to `postgres`.
    pub system_user: &'a str,
    /// The environment's networks, which the Cluster's lines can name: see [`Manifests::name_networks`].
    pub networks: &'a Networks,
}

/// The texts of the three files that make up a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresFiles {
    /// The text of `postgresql.conf`.
    pub postgresql_conf: String,
    /// The text of `pg_hba.conf`.
    pub pg_hba_conf: String,
    /// The text of `pg_ident.conf`.
    pub pg_ident_conf: String,
}

/// CloudNativePG 1.30's lines before the user's.
const CNPG_HBA_FIRST: &str = "\
# FIXED RULES
local all cnpg_metrics_exporter peer map=cnpg_metrics_exporter
local all all peer map=local
hostssl postgres streaming_replica all cert map=cnpg_streaming_replica
hostssl replication streaming_replica all cert map=cnpg_streaming_replica
hostssl all cnpg_pooler_pgbouncer all cert map=cnpg_pooler_pgbouncer
# USER-DEFINED RULES
";

/// CloudNativePG 1.30's lines after the user's.
const CNPG_HBA_LAST: &str = "\
# DEFAULT RULES
host all all all scram-sha-256
";

/// Settings of a small local server that starts fast, and of its log.
const LOCAL: [(&str, &str); 26] = [
    ("logging_collector", "on"),
    ("log_destination", "jsonlog"),
    ("log_filename", "postgresql.log"),
    ("log_file_mode", "0644"),
    ("log_rotation_age", "0"),
    ("log_rotation_size", "0"),
    ("log_connections", "on"),
    ("log_disconnections", "on"),
    ("log_min_messages", "warning"),
    ("log_statement", "none"),
    ("log_checkpoints", "off"),
    ("log_error_verbosity", "default"),
    ("log_timezone", "UTC"),
    ("timezone", "UTC"),
    ("max_connections", "200"),
    ("shared_buffers", "16MB"),
    ("dynamic_shared_memory_type", "posix"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("synchronous_commit", "off"),
    // CloudNativePG's lines for `replication` are of use only with this. The number of WAL senders stays that of initdb: a replica that
    // begins with initdb's data directory must have as many.
    ("wal_level", "replica"),
    ("max_logical_replication_workers", "0"),
    ("max_parallel_workers", "0"),
    ("update_process_title", "off"),
    ("autovacuum", "off"),
    ("jit", "off"),
];

/// The Cluster's `parameters` that bear on connections; the others are for a machine of another size.
fn bears_on_connections(name: &str) -> bool {
    name.starts_with("ssl_")
        || name.starts_with("tcp_")
        || name.starts_with("krb_")
        || name.starts_with("gss_")
        || ["authentication_timeout", "client_connection_check_interval", "db_user_namespace", "password_encryption", "scram_iterations"]
            .contains(&name)
}

/// A replica's own file of settings, which CloudNativePG writes beside `postgresql.conf`, to be included after it.
pub const OVERRIDE_FILE: &str = "override.conf";

/// How a replica reaches its primary.
#[derive(Debug, Clone, Copy)]
pub struct ReplicaPlaces<'a> {
    /// The name of the primary's Service. It is not verified.
    pub host: &'a str,
    /// Where the primary is.
    pub address: SocketAddr,
    /// The directory of the replica's own [`REPLICA_CERTIFICATE`] and its like.
    pub certificates: &'a Path,
    /// The replica's own name.
    pub application_name: &'a str,
}

/// The contents of [`OVERRIDE_FILE`], with `primary_conninfo` as CloudNativePG 1.30 has it (`buildPrimaryConnInfo` in
/// `pkg/management/postgres`), but for the address, since no name is looked up here.
#[must_use]
pub fn override_conf(replica: &ReplicaPlaces<'_>) -> String {
    let file = |name: &str| replica.certificates.join(name).to_string_lossy().into_owned();
    let options = [
        ("host", replica.host.to_owned()),
        ("hostaddr", replica.address.ip().to_string()),
        ("user", "streaming_replica".to_owned()),
        ("port", replica.address.port().to_string()),
        ("sslkey", file(REPLICA_KEY)),
        ("sslcert", file(REPLICA_CERTIFICATE)),
        ("sslrootcert", file(SERVER_CA)),
        ("application_name", replica.application_name.to_owned()),
        ("sslmode", "verify-ca".to_owned()),
    ];
    let conninfo: Vec<String> = options.iter().map(|(name, value)| format!("{name}={}", in_conninfo(value))).collect();
    // The server's own 5 s between two tries would be most of the time that a timeline takes.
    format!("primary_conninfo = {}\nwal_retrieve_retry_interval = 100ms\nhot_standby = on\n", quoted(&conninfo.join(" ")))
}

/// A value of a connection string: PostgreSQL manual, libpq, "Keyword/Value Connection Strings".
fn in_conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Renders the three files: the Cluster's configuration as the deployment kind has it, with the scenario's changes.
///
/// `major` is PostgreSQL's major version; `generation` must differ from that of the configuration before.
/// Without a Cluster the result has no user's lines but those of `config`.
///
/// # Errors
/// [`NoNetwork`] that a line of the Cluster names and the environment does not have.
pub fn render(
    manifests: &Manifests,
    deployment: DeploymentKind,
    major: u16,
    config: &ServerConfig,
    places: &PostgresPlaces<'_>,
    generation: u64,
) -> Result<PostgresFiles, NoNetwork> {
    let cluster = manifests.cluster.as_ref();
    let user_lines = config.pg_hba.as_ref().or(cluster.map(|cluster| &cluster.postgresql.pg_hba));
    let user_lines: String = user_lines.into_iter().flatten().flat_map(|line| [line.as_str(), "\n"]).collect();
    let user_lines = places.networks.fill(&user_lines)?;
    let user_maps: String =
        cluster.into_iter().flat_map(|cluster| &cluster.postgresql.pg_ident).flat_map(|map| [map.as_str(), "\n"]).collect();
    let (pg_hba_conf, pg_ident_conf) = match deployment {
        DeploymentKind::Documented => (user_lines, user_maps),
        DeploymentKind::Cnpg => {
            let user = places.system_user;
            let fixed = format!(
                "# FIXED RULES\n\
                 local {user} postgres\n\
                 cnpg_metrics_exporter {user} cnpg_metrics_exporter\n\
                 cnpg_streaming_replica streaming_replica streaming_replica\n\
                 cnpg_pooler_pgbouncer cnpg_pooler_pgbouncer cnpg_pooler_pgbouncer\n\
                 # USER-DEFINED RULES\n"
            );
            (format!("{CNPG_HBA_FIRST}{user_lines}{CNPG_HBA_LAST}"), fixed + &user_maps)
        }
    };
    let settings = settings(manifests, deployment, major, config, places, generation);
    let postgresql_conf = settings.iter().map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect();
    Ok(PostgresFiles { postgresql_conf, pg_hba_conf, pg_ident_conf })
}

fn settings(
    manifests: &Manifests,
    deployment: DeploymentKind,
    major: u16,
    config: &ServerConfig,
    places: &PostgresPlaces<'_>,
    generation: u64,
) -> BTreeMap<String, String> {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let certificate = |name: &str| path(&places.certificates.join(name));
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: String| {
        settings.insert(name.to_owned(), value);
    };
    // The order is that of precedence: what the operator lets a user override comes first.
    if deployment == DeploymentKind::Cnpg {
        set("ssl_min_protocol_version", "TLSv1.3".to_owned());
        set("ssl_max_protocol_version", "TLSv1.3".to_owned());
    }
    for (name, value) in manifests.cluster.iter().flat_map(|cluster| &cluster.postgresql.parameters) {
        // PostgreSQL's names have no case.
        let name = name.to_ascii_lowercase();
        if bears_on_connections(&name) {
            set(&name, value.clone());
        }
    }
    for (name, value) in LOCAL {
        set(name, value.to_owned());
    }
    if major >= 17 {
        // Can only be set at start: it must stand in every version of the file.
        set("trace_connection_negotiation", "on".to_owned());
    }
    set("port", places.port.to_string());
    set("listen_addresses", places.listen_addresses.to_owned());
    set("unix_socket_directories", path(places.socket_directory));
    set("hba_file", path(places.hba_file));
    set("ident_file", path(places.ident_file));
    set("log_directory", path(places.log_directory));
    set("ssl", "on".to_owned());
    set("ssl_cert_file", certificate(SERVER_CERTIFICATE));
    set("ssl_key_file", certificate(SERVER_KEY));
    set("ssl_ca_file", certificate(CLIENT_CA));
    if config.client_ca.as_deref() == Some("none") {
        set("ssl_ca_file", String::new());
    }
    if config.crl.is_some() {
        set("ssl_crl_file", certificate(CLIENT_CRL));
    }
    for (name, value) in &config.settings {
        set(name, value.clone());
    }
    set(GENERATION, generation.to_string());
    settings
}

/// A value as `postgresql.conf` takes it: quotes and backslashes escaped, control characters too.
fn quoted(value: &str) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('\'');
    for character in value.chars() {
        match character {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}
