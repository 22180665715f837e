//! One connection as a driver is asked to make it: the options of libpq, typed.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::endpoint::Endpoint;

/// Where pods mount the Secret with tls.crt, tls.key and ca.crt (the documents' `volumeMounts` of Nautobot's pods).
pub const NAUTOBOT_MOUNT: &str = "/etc/nautobot/mtls";

/// libpq's `sslmode`. "Unset" is `None` where a request holds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Plaintext only: TLS is not asked for.
    Disable,
    /// Plaintext first, TLS if the server refuses.
    Allow,
    /// TLS first, plaintext if that fails: libpq's default.
    Prefer,
    /// TLS; verifies the chain only if a root certificate file exists.
    Require,
    /// TLS with a verified chain.
    VerifyCa,
    /// TLS with a verified chain and host name.
    VerifyFull,
}

impl SslMode {
    /// Every mode, weakest first.
    pub const ALL: [Self; 6] = [Self::Disable, Self::Allow, Self::Prefer, Self::Require, Self::VerifyCa, Self::VerifyFull];

    /// The name that libpq knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Allow => "allow",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// libpq's `sslnegotiation` (17 and newer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslNegotiation {
    /// SSLRequest first, then the handshake.
    Postgres,
    /// The handshake starts at once, with ALPN `postgresql`.
    Direct,
}

impl SslNegotiation {
    /// The name that libpq knows it by.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Direct => "direct",
        }
    }
}

/// A TLS protocol version, spelled as PostgreSQL and OpenSSL do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.0: named by old servers and clients only.
    #[serde(rename = "TLSv1")]
    V1_0,
    /// TLS 1.1: named by old servers and clients only.
    #[serde(rename = "TLSv1.1")]
    V1_1,
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "TLSv1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446): a refused client certificate shows after the client's handshake.
    #[serde(rename = "TLSv1.3")]
    V1_3,
}

impl TlsVersion {
    /// The name that `ssl_min_protocol_version` takes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V1_0 => "TLSv1",
            Self::V1_1 => "TLSv1.1",
            Self::V1_2 => "TLSv1.2",
            Self::V1_3 => "TLSv1.3",
        }
    }
}

/// What a Redis client does with the server's certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedisTls {
    /// No TLS at all.
    Off,
    /// TLS, nothing verified (`ssl_cert_reqs=none`).
    NoVerify,
    /// TLS with a verified chain, the host name left out.
    VerifyCa,
    /// TLS with a verified chain and host name.
    #[default]
    VerifyFull,
}

/// A password: shown as `***` by `Debug`, written out only by serialisation to a driver's standard input.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// Wraps a password so that `Debug` can't show it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The password itself, for the driver that sends it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// The client's credential and trust files, any of which may be absent (an option left unset) or name a missing file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientFiles {
    /// `sslcert` / `ssl_certfile`: PEM, leaf first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// libpq's `sslkey`, redis-py's `ssl_keyfile`: the private key as PEM. `None` leaves the option unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// libpq's `sslrootcert`, redis-py's `ssl_ca_certs`: trusted certificates as PEM. `None` leaves the option unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<PathBuf>,
}

/// One PostgreSQL connection to make. Options that are `None` are left unset at the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresRequest {
    /// The server's address, or the relay's in front of it, with the host name to ask for.
    pub endpoint: Endpoint,
    /// `sslmode`; `None` leaves it unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<SslMode>,
    /// `sslnegotiation`; `None` leaves it unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslnegotiation: Option<SslNegotiation>,
    /// The files behind `sslcert`, `sslkey` and `sslrootcert`.
    pub files: ClientFiles,
    /// The database user who asks to be let in.
    pub user: String,
    /// The name of the database.
    pub database: String,
    /// The password, if one is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// libpq's `ssl_min_protocol_version`; `None` leaves it unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tls: Option<TlsVersion>,
    /// libpq's `ssl_max_protocol_version`; `None` leaves it unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tls: Option<TlsVersion>,
    /// ALPN protocols offered in place of `postgresql`; only the `rustls` driver can. An empty list offers none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<Vec<String>>,
    /// `replication=true`: a session with a WAL sender, as streaming replication opens it. Such a session takes no SQL: there is no view
    /// of `pg_stat_ssl`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replication: bool,
    /// Environment variables of `nautobot_config.py`, for clients that load it: others can't. What the file finds where pods mount their
    /// Secret are `files`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// One Redis connection to make: authenticate, then `PING`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisRequest {
    /// The server's address, or the relay's in front of it, with the host name to ask for.
    pub endpoint: Endpoint,
    /// TLS and what is verified; `None`: [`RedisTls::default`]. A client that loads a configuration file takes all of it from there, and
    /// can't do what is said here: for others it is always said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// Certificate, key and trust.
    pub files: ClientFiles,
    /// The password, if one is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Lowest protocol version offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_tls: Option<TlsVersion>,
    /// Highest protocol version offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tls: Option<TlsVersion>,
    /// Environment variables of `nautobot_config.py`, as in [`PostgresRequest::env`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// What a driver is asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConnectRequest {
    /// A PostgreSQL session: connect, read `pg_stat_ssl`, close.
    Postgres(PostgresRequest),
    /// A Redis session: connect, authenticate, `PING`, close.
    Redis(RedisRequest),
}

impl ConnectRequest {
    /// The server that the request is for, of whichever kind.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        match self {
            Self::Postgres(request) => &request.endpoint,
            Self::Redis(request) => &request.endpoint,
        }
    }

    /// Environment variables of `nautobot_config.py`.
    #[must_use]
    pub fn env(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Postgres(request) => &request.env,
            Self::Redis(request) => &request.env,
        }
    }

    /// The client's files that it names.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        let files = match self {
            Self::Postgres(request) => &request.files,
            Self::Redis(request) => &request.files,
        };
        [&files.certificate, &files.key, &files.root].into_iter().flatten().map(PathBuf::as_path).collect()
    }

    /// Where it goes, mutable: the run points a request at its relay.
    pub fn endpoint_mut(&mut self) -> &mut Endpoint {
        match self {
            Self::Postgres(request) => &mut request.endpoint,
            Self::Redis(request) => &mut request.endpoint,
        }
    }
}
