//! What the relay saw between client and server.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::connect::TlsVersion;
use super::refusal::{Alert, Stage};

/// The length of PostgreSQL's SSLRequest.
const SSL_REQUEST: u64 = 8;

/// One step of a connection as it is visible on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum WireEvent {
    /// A TCP connection was made. A second one is a fallback.
    Connect,
    /// GSSENCRequest answered with `N`.
    GssRefused,
    /// SSLRequest answered with `S`.
    SslAccepted,
    /// SSLRequest answered with `N`.
    SslRefused,
    /// The client's first bytes were a ClientHello: direct negotiation, and always so with Redis.
    DirectTls,
    /// The server answered a ClientHello with a ServerHello.
    ServerHello,
    /// An alert in the clear, from either side. TLS 1.3 encrypts those after ServerHello, unless OpenSSL's client sends one before it has
    /// switched its own encryption on.
    Alert,
    /// In plaintext: AuthenticationOk, or Redis' first reply that is no error.
    Authenticated,
    /// In plaintext: ErrorResponse, or a Redis error.
    AuthRefused,
}

/// A side of a connection through the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The client that connected to the relay.
    Client,
    /// The server or gateway that the relay connected to.
    Server,
}

/// An alert seen in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireAlert {
    /// The side that sent the alert.
    pub from: Side,
    /// The alert by its number in RFC 8446 section 6.
    pub alert: Alert,
}

/// A ClientHello's fields that a gateway or server decides by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClientHello {
    /// The extension `server_name` (SNI); absent where the client sent none, as for an IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// ALPN protocols, in order.
    pub alpn: Vec<String>,
    /// `supported_versions`, or the legacy version alone; in order, unknown ones left out.
    pub versions: Vec<TlsVersion>,
}

/// One connection through the relay.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireConnection {
    /// The address the server saw; its port is `remote_port` in PostgreSQL's jsonlog. Absent if the server could not be reached, or the
    /// gateway did not pass the connection on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<SocketAddr>,
    /// Behind a gateway: the address that the gateway saw. Absent without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<SocketAddr>,
    /// Why the server could not be reached, in the system's words; the client's connection was then reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_error: Option<String>,
    /// What happened, in order.
    pub events: Vec<WireEvent>,
    /// The ClientHello, if one was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_hello: Option<ClientHello>,
    /// The version that ServerHello chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<TlsVersion>,
    /// The ALPN protocol that a TLS 1.2 ServerHello chose (1.3 encrypts it).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// Alerts in the clear, in order.
    pub alerts: Vec<WireAlert>,
    /// Whether the client had finished its TLS handshake, as far as the wire tells: under TLS 1.3 it sent more than an alert behind
    /// ServerHello; up to 1.2 the server sent its ChangeCipherSpec.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handshake_finished: bool,
    /// SQLSTATE of a plaintext ErrorResponse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The side whose end of stream or reset came first. Absent if the relay ended before both, or cut the connection itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_first: Option<Side>,
    /// Bytes from client to server.
    pub bytes_up: u64,
    /// Bytes from server to client.
    pub bytes_down: u64,
}

/// Everything the relay saw of one client call: several connections where the client reconnects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WireTrace {
    /// In order of arrival.
    pub connections: Vec<WireConnection>,
    /// The relay itself failed (no file descriptors or ports left, for example): what it saw is then no evidence, and the case is errored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl WireTrace {
    /// All events in order; each connection begins with [`WireEvent::Connect`].
    #[must_use]
    pub fn events(&self) -> Vec<WireEvent> {
        self.connections.iter().flat_map(|connection| connection.events.iter().copied()).collect()
    }

    /// How far the last connection had come when it ended. What TLS encrypts is not told apart: it is [`Stage::PostHandshake`].
    #[must_use]
    pub fn reached(&self) -> Stage {
        let Some(last) = self.connections.last().filter(|connection| connection.upstream_error.is_none()) else { return Stage::Connect };
        let saw = |event| last.events.contains(&event);
        match last.bytes_up {
            _ if saw(WireEvent::Authenticated) => Stage::Query,
            _ if saw(WireEvent::AuthRefused) => Stage::Authentication,
            _ if last.handshake_finished => Stage::PostHandshake,
            _ if saw(WireEvent::SslAccepted) || saw(WireEvent::DirectTls) => Stage::Handshake,
            0 => Stage::Connect,
            // No other first message of PostgreSQL is as short.
            SSL_REQUEST => Stage::SslRequest,
            _ => Stage::Authentication,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(events: &[WireEvent], bytes_up: u64, handshake_finished: bool) -> Stage {
        let connection = WireConnection { events: events.to_vec(), bytes_up, handshake_finished, ..WireConnection::default() };
        // A first try that came further says nothing of the last.
        let first = WireConnection { events: vec![WireEvent::Authenticated], ..WireConnection::default() };
        WireTrace { connections: vec![first, connection], error: None }.reached()
    }

    #[test]
    fn how_far_a_connection_came_is_what_the_wire_showed_last() {
        use WireEvent::{AuthRefused, Authenticated, Connect, DirectTls, SslAccepted, SslRefused};
        assert_eq!(WireTrace::default().reached(), Stage::Connect);
        assert_eq!(reached(&[Connect], 0, false), Stage::Connect);
        assert_eq!(reached(&[Connect], 8, false), Stage::SslRequest);
        assert_eq!(reached(&[Connect, SslRefused], 8, false), Stage::SslRequest);
        assert_eq!(reached(&[Connect, SslRefused], 90, false), Stage::Authentication);
        assert_eq!(reached(&[Connect], 82, false), Stage::Authentication);
        assert_eq!(reached(&[Connect, SslAccepted], 300, false), Stage::Handshake);
        assert_eq!(reached(&[Connect, DirectTls], 300, false), Stage::Handshake);
        assert_eq!(reached(&[Connect, SslAccepted], 300, true), Stage::PostHandshake);
        assert_eq!(reached(&[Connect, AuthRefused], 90, false), Stage::Authentication);
        assert_eq!(reached(&[Connect, Authenticated], 90, false), Stage::Query);
        let unreachable =
            WireConnection { upstream_error: Some("connection refused".to_owned()), bytes_up: 8, ..WireConnection::default() };
        assert_eq!(WireTrace { connections: vec![unreachable], error: None }.reached(), Stage::Connect);
    }
}
