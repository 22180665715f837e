//! The named classes of refused connections.
//!
//! Texts vary with the OpenSSL behind a client more than with PostgreSQL; the class is the stable thing.
//! Expectations name a class, plus the documented text where a document gives one.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How far a connection had come when it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Before any connection: an option, a file.
    Options,
    /// Connecting by TCP or unix socket.
    Connect,
    /// Waiting for the answer to SSLRequest.
    SslRequest,
    /// During the TLS handshake as the client sees it.
    Handshake,
    /// After the client finished its handshake: TLS 1.3 reports a refused client certificate here.
    PostHandshake,
    /// Between the first message after TLS and the end of authentication.
    Authentication,
    /// In the session: a query, or the server's end of it.
    Query,
}

/// The server sent this TLS alert (RFC 8446 section 6, RFC 5246 section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Alert {
    /// Alert 0: the session is closed in order.
    CloseNotify,
    /// Alert 10: a message out of order.
    UnexpectedMessage,
    /// Alert 40: under TLS 1.2, Redis wants a certificate; or nothing in common.
    HandshakeFailure,
    /// Alert 42: before its start, or malformed.
    BadCertificate,
    /// Alert 43: key usage or extended key usage.
    UnsupportedCertificate,
    /// Alert 44: on a revocation list.
    CertificateRevoked,
    /// Alert 45: past its end, or the revocation list is.
    CertificateExpired,
    /// Alert 46: refused for another reason.
    CertificateUnknown,
    /// Alert 47: a field with a value that it can't have.
    IllegalParameter,
    /// Alert 48: the certificate leads to no CA that the server trusts.
    UnknownCa,
    /// Alert 49: a valid certificate, but not let in.
    AccessDenied,
    /// Alert 50: a message that can't be read.
    DecodeError,
    /// Alert 51: a signature that does not fit.
    DecryptError,
    /// Alert 70: no common TLS version.
    ProtocolVersion,
    /// Alert 71: only ciphers weaker than the server takes.
    InsufficientSecurity,
    /// Alert 80: a failure that has nothing to do with the peer.
    InternalError,
    /// Alert 112: the name in SNI.
    UnrecognizedName,
    /// Alert 116: Redis wants a certificate, TLS 1.3.
    CertificateRequired,
    /// Alert 120: no common protocol in ALPN.
    NoApplicationProtocol,
    /// Any alert that is not in this list.
    Other,
}

impl Alert {
    /// The alert of that number on the wire.
    #[must_use]
    pub fn from_code(code: u8) -> Self {
        match code {
            0 => Self::CloseNotify,
            10 => Self::UnexpectedMessage,
            40 => Self::HandshakeFailure,
            42 => Self::BadCertificate,
            43 => Self::UnsupportedCertificate,
            44 => Self::CertificateRevoked,
            45 => Self::CertificateExpired,
            46 => Self::CertificateUnknown,
            47 => Self::IllegalParameter,
            48 => Self::UnknownCa,
            49 => Self::AccessDenied,
            50 => Self::DecodeError,
            51 => Self::DecryptError,
            70 => Self::ProtocolVersion,
            71 => Self::InsufficientSecurity,
            80 => Self::InternalError,
            112 => Self::UnrecognizedName,
            116 => Self::CertificateRequired,
            120 => Self::NoApplicationProtocol,
            _ => Self::Other,
        }
    }
}

/// Why the client refused the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VerifyFailure {
    /// The client does not say why: all that OpenSSL behind libpq tells is `certificate verify failed`.
    Certificate,
    /// No trusted root, or a signature that does not fit it.
    UnknownCa,
    /// The certificate is past its end.
    Expired,
    /// The certificate is before its start.
    NotYetValid,
    /// The certificate is for other names.
    HostName,
    /// Key usage or extended key usage doesn't allow a server.
    Purpose,
    /// The certificate is on a revocation list.
    Revoked,
    /// Malformed for this client, such as a CN-only certificate for webpki.
    BadEncoding,
}

/// How the server refused at authentication, with the SQLSTATE in brackets. TLS was not the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AuthRefusal {
    /// `no pg_hba.conf entry for ...` (28000).
    NoHbaEntry,
    /// `pg_hba.conf rejects connection for ...` (28000).
    HbaReject,
    /// `connection requires a valid client certificate` (28000).
    ClientCertificateRequired,
    /// `certificate authentication failed for user ...` (28000).
    CertificateUser,
    /// `client certificates can only be checked if a root certificate store is available` (F0000).
    NoRootStore,
    /// The password is wrong: `password authentication failed for user ...` (28P01).
    Password,
    /// The server asks for a password and the client has none (`fe_sendauth: no password supplied`).
    NoPassword,
    /// `Peer authentication failed for user ...` (28000).
    Peer,
    /// `role ... does not exist` (28000).
    NoRole,
    /// `database ... does not exist` (3D000).
    NoDatabase,
    /// Redis `NOAUTH Authentication required`.
    RedisNoAuth,
    /// Redis `WRONGPASS invalid username-password pair`.
    RedisWrongPassword,
    /// Another FATAL: the report has its SQLSTATE and text.
    Other,
}

/// What the server says of itself when it takes no sessions at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// `the database system is starting up` (57P03); Redis `LOADING Redis is loading the dataset in memory`.
    StartingUp,
    /// `the database system is shutting down` (57P03).
    ShuttingDown,
    /// `the database system is in recovery mode` (57P03): a process of it was killed, and it starts over.
    InRecovery,
    /// `the database system is not yet accepting connections` (57P03): recovery has not yet come to a consistent state.
    NotAccepting,
}

/// Why the server ended a session, or an authentication under way, in its own words. psycopg2 loses those words in a session: there it is
/// `closed: query`. So it is for everybody where the server says nothing: PostgreSQL after a crash or an immediate shutdown (it sends a
/// warning, which is no error), Redis always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// `terminating connection due to administrator command` (57P01): `pg_terminate_backend`, or a fast shutdown.
    AdminShutdown,
    /// `terminating connection due to unexpected postmaster exit` (57P01).
    PostmasterExit,
    /// `terminating connection due to idle-session timeout` (57P05).
    IdleTimeout,
}

/// An option that the client refused before any connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OptionRefusal {
    /// `weak sslmode "..." may not be used with sslnegotiation=direct`.
    WeakSslmodeDirect,
    /// The library has no option of that name, such as `sslnegotiation` before 17.
    UnknownOption,
    /// The library knows the option and not this value of it.
    InvalidValue,
}

/// A credential or trust file that the client could not use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileRefusal {
    /// The root file is not there, and the mode verifies.
    RootMissing,
    /// There are no certificates in the root file.
    RootUnusable,
    /// The certificate file is there, the key file is not.
    KeyMissing,
    /// The key file is open to group or others.
    KeyPermissions,
    /// The key belongs to another certificate.
    KeyMismatch,
    /// The key file can't be read or parsed.
    KeyUnusable,
    /// The certificate file can't be read or parsed.
    CertificateUnusable,
    /// The certificate file is not there, for clients that insist on it.
    CertificateMissing,
}

/// What `nautobot_config.py` raised before any connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigRefusal {
    /// `FileNotFoundError`: a file that the settings need is not there.
    FileMissing,
    /// Any other exception: the report has its text and line.
    Other,
}

/// TLS could not be agreed on, and no alert tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TlsRefusal {
    /// The server answered `N` to SSLRequest, and the mode needs TLS.
    NotOffered,
    /// No common protocol version, found by the client.
    ProtocolVersion,
    /// Direct negotiation, and the server agreed on no ALPN protocol.
    NoAlpn,
    /// The server sent bytes that are not TLS.
    NotTls,
}

/// The class of a refusal, such as `{alert: unknown-ca}`. "Some error" can't be expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The server sent a TLS alert.
    Alert(Alert),
    /// The client refused the server's certificate.
    Verify(VerifyFailure),
    /// The server refused at authentication.
    Auth(AuthRefusal),
    /// The server takes no sessions at present.
    Server(ServerState),
    /// The server ended the session, or the authentication under way.
    Ended(EndReason),
    /// The client refused an option before connecting.
    Option(OptionRefusal),
    /// The application's configuration file stopped its start.
    Config(ConfigRefusal),
    /// The client could not use a file.
    File(FileRefusal),
    /// TLS could not be agreed on.
    Tls(TlsRefusal),
    /// The peer closed or reset the connection without a word, at this stage.
    Closed(Stage),
    /// Nothing came in time, at this stage.
    TimedOut(Stage),
    /// A failure that no class covers yet, at this stage: the observation's text tells. Where a client can't tell the stage, as psycopg2,
    /// it is how far the wire shows that the connection came, behind a TLS handshake `post-handshake`; over a unix socket `connect`. An
    /// expectation of it needs a `text` beside it, which says which failure is meant.
    Unclassified(Stage),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = serde_json::to_value(self).map_err(|_| std::fmt::Error)?;
        let pair = value.as_object().and_then(|map| map.iter().next());
        match pair {
            Some((class, kind)) => write!(f, "{class}: {}", kind.as_str().unwrap_or("?")),
            None => Err(std::fmt::Error),
        }
    }
}
