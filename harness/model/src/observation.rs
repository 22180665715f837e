//! What client, server and wire saw of one connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connect::TlsVersion;
use super::refusal::{Refusal, Stage};
use super::wire::WireTrace;

/// Durations of a connection's phases in nanoseconds of a monotonic clock. A phase that a driver can't split off is absent, never 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phases {
    /// TCP connect, from the first packet to the established connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_ns: Option<u64>,
    /// SSLRequest sent to answer received: includes the server's fork.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslrequest_ns: Option<u64>,
    /// TLS handshake as the client sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_ns: Option<u64>,
    /// Startup packet to ReadyForQuery (PostgreSQL), `AUTH` to its reply (Redis).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth_ns: Option<u64>,
    /// The first query (`PING` for Redis), from sending it to its answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_ns: Option<u64>,
    /// First packet to ready session, the first query left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_ns: Option<u64>,
}

/// A certificate as seen by a client: enough to tell which one it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeenCertificate {
    /// SHA-256 of the DER, lower-case hex.
    pub sha256: String,
}

/// The server's own view of the session: `pg_stat_ssl` of the session's backend, with `current_user`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerView {
    /// The column `ssl`: whether the backend's connection uses TLS.
    pub ssl: bool,
    /// The column `version`, such as `TLSv1.3`; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The column `cipher`, in OpenSSL's spelling; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The column `client_dn`, such as `/CN=app`; absent where the server saw no client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_dn: Option<String>,
    /// The column `client_serial`, in decimal; absent where the server saw no client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_serial: Option<String>,
    /// The column `issuer_dn` of the client's certificate; absent where the server saw none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_dn: Option<String>,
    /// The session's `current_user`, which `pg_ident.conf` may have made another than the certificate's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// A session that was established and answered its first query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Session {
    /// TLS or plaintext, as the client's library says.
    pub tls: bool,
    /// The protocol version as the client's library says; absent in plaintext, and where the driver can't tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<TlsVersion>,
    /// Cipher suite, as the client's library names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<String>,
    /// The ALPN protocol agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// The certificate that the server presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_certificate: Option<SeenCertificate>,
    /// The server's view. Always present for PostgreSQL, except for a session of streaming replication, which takes no SQL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_view: Option<ServerView>,
}

/// A refused connection: its class, and what the client said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// The class of the refusal, which stays the same where texts differ between libraries.
    pub refusal: Refusal,
    /// How far it had come, where the driver can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// SQLSTATE, where the driver gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The client's whole message; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// How a client's call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientOutcome {
    /// The client was connected, and its first query was answered.
    Session(Session),
    /// The client was refused, or broke off itself.
    Refused(Refused),
}

/// What the client saw.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientObservation {
    /// Whether the call ended in a session or in a refusal.
    pub outcome: ClientOutcome,
    /// How long each phase took.
    pub phases: Phases,
    /// The settings that an application's configuration file came to, as text and without passwords: only clients that load one tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// One line of a server's log that belongs to a known connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// The severity: `LOG`, `FATAL`, ... of PostgreSQL, `notice` or `warning` of Redis, the termination state of HAProxy.
    pub severity: String,
    /// SQLSTATE, where the server logs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The message without severity, time and process, in the server's words.
    pub message: String,
    /// PostgreSQL's DETAIL, where the line has one: of a certificate that did not verify, it names subject, serial number and issuer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The client's address as the server saw it.
    #[schemars(with = "Option<String>")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<SocketAddr>,
}

impl LogLine {
    /// Whether message or detail hold the text.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        self.message.contains(text) || self.detail.as_deref().is_some_and(|detail| detail.contains(text))
    }
}

/// The three witnesses of one connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Observation {
    /// What the client's library reported of the call.
    pub client: ClientObservation,
    /// The server's log lines of this connection, in order.
    pub server_log: Vec<LogLine>,
    /// The relay; absent over a unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<WireTrace>,
}

/// The addresses a relay may use to reach the server from.
pub type SourceAddress = IpAddr;
