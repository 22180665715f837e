//! PostgreSQL's jsonlog (manual section 20.8.4), one JSON object a line.
//!
//! Every line that a backend writes from `connection received` on carries `remote_host` and `remote_port` (seen on 15, 16, 17 and 18),
//! including `could not accept SSL connection`, the lines of `trace_connection_negotiation` and FATALs; the postmaster's have neither.
//! A unix socket's lines have `"remote_host":"[local]"` and no port.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::record::{LinePosition, Parser, Record};
use model::observation::LogLine;

/// The parser of jsonlog: every line says by itself which connection it is of.
#[derive(Debug, Default)]
pub struct JsonLog;

/// The fields that are of use here. A foreign format: others are passed over.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    error_severity: Cow<'a, str>,
    #[serde(borrow, default)]
    state_code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Cow<'a, str>,
    #[serde(borrow, default)]
    detail: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    context: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    remote_host: Option<Cow<'a, str>>,
    #[serde(default)]
    remote_port: Option<u16>,
    /// Start time and process id of the session, both in hex: `6b0542c7.676a`.
    #[serde(borrow, default)]
    session_id: Option<Cow<'a, str>>,
}

impl Parser for JsonLog {
    fn parse(&mut self, line: &[u8]) -> Option<Record> {
        let fields: Fields<'_> = serde_json::from_slice(line).ok()?;
        let host: Option<IpAddr> = fields.remote_host.and_then(|host| host.parse().ok());
        let peer = host.zip(fields.remote_port).map(SocketAddr::from);
        let session = fields.session_id.and_then(|id| {
            let (start, pid) = id.split_once('.')?;
            Some(u64::from_str_radix(start, 16).ok()? << 32 | u64::from_str_radix(pid, 16).ok()?)
        });
        let connection = peer.zip(session).map(|(peer, session)| LinePosition {
            peer,
            session,
            opens: fields.message.starts_with("connection received:"),
            // A session that ends by FATAL during authentication has no `disconnection` line.
            ends: matches!(&*fields.error_severity, "FATAL" | "PANIC")
                || fields.message.starts_with("disconnection:")
                || fields.message.starts_with("could not accept SSL connection"),
        });
        let detail = match (fields.detail, fields.context) {
            (Some(detail), _) => Some(detail.into_owned()),
            // Where the postmaster refuses a file, the place in it stands in CONTEXT.
            (None, Some(context)) if connection.is_none() => Some(context.into_owned()),
            _ => None,
        };
        let line = LogLine {
            severity: fields.error_severity.into_owned(),
            sqlstate: fields.state_code.map(Cow::into_owned),
            message: fields.message.into_owned(),
            detail,
            peer: connection.map(|place| place.peer),
        };
        Some(Record { line, connection })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Record {
        JsonLog.parse(line.as_bytes()).expect("a line of the log")
    }

    // All lines were written by real servers.

    #[test]
    fn a_connection_opens_with_connection_received() {
        let record = parse(
            r#"{"timestamp":"2026-11-24 07:54:47.127 UTC","pid":26474,"remote_host":"127.0.0.1","remote_port":39560,"session_id":"6b0542c7.676a","line_num":1,"ps":"","session_start":"2026-11-24 07:54:47 UTC","txid":0,"error_severity":"LOG","message":"connection received: host=127.0.0.1 port=39560","backend_type":"not initialized","query_id":0}"#,
        );
        let place = record.connection.expect("it belongs to a connection");
        assert_eq!(place.peer, "127.0.0.1:39560".parse().expect("an address"));
        assert_eq!(place.session, 0x6b05_42c7_0000_676a);
        assert!(place.opens && !place.ends);
        assert_eq!(record.line.peer, Some(place.peer));
    }

    #[test]
    fn ipv6_clients_are_known_by_their_address_too() {
        let record = parse(
            r#"{"timestamp":"2026-11-24 07:54:48.406 UTC","pid":26553,"remote_host":"::1","remote_port":38468,"session_id":"6b0542c8.67b9","line_num":2,"ps":"","session_start":"2026-11-24 07:54:48 UTC","txid":0,"error_severity":"LOG","message":"SSLRequest accepted","backend_type":"not initialized","query_id":0}"#,
        );
        let place = record.connection.expect("it belongs to a connection");
        assert_eq!(place.peer, "[::1]:38468".parse().expect("an address"));
        assert!(!place.opens && !place.ends);
    }

    #[test]
    fn a_refused_handshake_ends_its_connection_and_keeps_sqlstate_and_detail() {
        let record = parse(
            r#"{"timestamp":"2026-11-24 07:54:48.468 UTC","pid":26557,"remote_host":"127.0.0.1","remote_port":34918,"session_id":"6b0542c8.67bd","line_num":3,"ps":"","session_start":"2026-11-24 07:54:48 UTC","txid":0,"error_severity":"LOG","state_code":"08P01","message":"could not accept SSL connection: certificate verify failed","detail":"Client certificate verification failed at depth 0: self signed certificate.\nFailed certificate data (unverified): subject \"/CN=other\", serial number 215742303532830368275218867660507370432629180084, issuer \"/CN=other\".","backend_type":"not initialized","query_id":0}"#,
        );
        assert!(record.connection.expect("a connection").ends);
        assert_eq!(record.line.sqlstate.as_deref(), Some("08P01"));
        let detail = record.line.detail.expect("a detail");
        assert!(
            detail.contains("depth 0: self signed certificate.\nFailed certificate data (unverified): subject \"/CN=other\""),
            "{detail}"
        );
    }

    #[test]
    fn a_context_is_the_detail_of_the_servers_own_lines_only() {
        let context = r#""error_severity":"LOG","message":"invalid line","context":"line 3 of configuration file \"/c/pg_hba.conf\"""#;
        let own = parse(&format!("{{{context}}}"));
        assert_eq!(own.line.detail.as_deref(), Some("line 3 of configuration file \"/c/pg_hba.conf\""));
        let detailed = parse(&format!(r#"{{{context},"detail":"more"}}"#));
        assert_eq!(detailed.line.detail.as_deref(), Some("more"));
        let of_a_connection = r#""remote_host":"127.0.0.1","remote_port":39560,"session_id":"6b0542c7.676a""#;
        assert_eq!(parse(&format!("{{{context},{of_a_connection}}}")).line.detail, None);
    }

    #[test]
    fn a_fatal_ends_its_connection() {
        let record = parse(
            r#"{"timestamp":"2026-11-24 07:54:47.367 UTC","user":"app","dbname":"postgres","pid":26486,"remote_host":"127.0.0.1","remote_port":39596,"session_id":"6b0542c7.6776","line_num":2,"ps":"authentication","session_start":"2026-11-24 07:54:47 UTC","vxid":"3/9","txid":0,"error_severity":"FATAL","state_code":"28000","message":"no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"postgres\", no encryption","backend_type":"client backend","query_id":0}"#,
        );
        assert!(record.connection.expect("a connection").ends);
        assert_eq!(record.line.severity, "FATAL");
        assert_eq!(record.line.sqlstate.as_deref(), Some("28000"));
    }

    #[test]
    fn lines_of_postmaster_and_unix_socket_belong_to_no_connection() {
        let local = parse(
            r#"{"timestamp":"2026-11-24 07:54:47.071 UTC","pid":26470,"remote_host":"[local]","session_id":"6b0542c7.6766","line_num":1,"ps":"","session_start":"2026-11-24 07:54:47 UTC","txid":0,"error_severity":"LOG","message":"connection received: host=[local]","backend_type":"not initialized","query_id":0}"#,
        );
        assert_eq!(local.connection, None);
        let postmaster = parse(
            r#"{"timestamp":"2026-11-24 07:56:01.071 UTC","pid":26194,"session_id":"6b0542c2.6652","line_num":9,"session_start":"2026-11-24 07:54:42 UTC","txid":0,"error_severity":"LOG","message":"invalid connection type \"bad\"","context":"line 3 of configuration file \"/run/pg_hba.conf\"","backend_type":"postmaster","query_id":0}"#,
        );
        assert_eq!(postmaster.connection, None);
        assert_eq!(postmaster.line.detail.as_deref(), Some("line 3 of configuration file \"/run/pg_hba.conf\""));
    }

    #[test]
    fn what_is_no_json_is_passed_over() {
        assert_eq!(JsonLog.parse(b"2026-11-24 07:54:42.402 UTC [26194] HINT:  Future log output"), None);
        assert_eq!(JsonLog.parse(b""), None);
    }
}
