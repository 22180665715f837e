//! HAProxy's log as [`haproxy::render`](deployment::haproxy::render) has it written: one JSON object a connection, as soon as it is passed
//! on, or at its end where it is not.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::record::{LinePosition, Parser, Record};
use model::observation::LogLine;

/// The parser of that log: each line is a connection of its own, which it opens and ends.
#[derive(Debug, Default)]
pub struct HaproxyLog {
    /// The connections so far.
    connections: u64,
}

/// All fields are texts: HAProxy writes `-` for what it has not.
#[derive(Deserialize)]
struct Fields {
    client: String,
    client_port: String,
    source: String,
    source_port: String,
    state: String,
    sni: String,
}

impl Parser for HaproxyLog {
    fn parse(&mut self, line: &[u8]) -> Option<Record> {
        let fields: Fields = serde_json::from_slice(line).ok()?;
        let peer = address(&fields.client, &fields.client_port)?;
        self.connections += 1;
        // The second letter tells what went on at the end: `C` that the server was being connected, `Q` that one was waited for. Then it
        // has seen nothing, though a source may be there.
        let passed_on = !matches!(fields.state.as_bytes().get(1), Some(b'C' | b'Q'));
        let upstream = address(&fields.source, &fields.source_port).filter(|_| passed_on);
        let line = LogLine {
            severity: fields.state,
            sqlstate: None,
            message: format!("host name {}", fields.sni),
            detail: upstream.map(|upstream| upstream.to_string()),
            peer: Some(peer),
        };
        Some(Record { line, connection: Some(LinePosition { peer, session: self.connections, opens: true, ends: true }) })
    }
}

impl HaproxyLog {
    /// The address that the server saw, by a line that was parsed here.
    pub fn upstream(line: &LogLine) -> Option<SocketAddr> {
        line.detail.as_deref()?.parse().ok()
    }
}

fn address(ip: &str, port: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
        let record = HaproxyLog::default().parse(line.as_bytes())?;
        Some((record.connection?.peer, HaproxyLog::upstream(&record.line)))
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    // All lines were written by HAProxy 2.6.

    #[test]
    fn a_connection_that_was_passed_on_has_the_address_that_the_server_saw() {
        let line = r#"{"client":"127.0.0.1","client_port":"45706","source":"127.77.0.1","source_port":"50902","state":"--","sni":"a.example.com"}"#;
        assert_eq!(parse(line), Some((at("127.0.0.1:45706"), Some(at("127.77.0.1:50902")))));
        let line =
            r#"{"client":"::1","client_port":"34624","source":"127.77.0.1","source_port":"50914","state":"--","sni":"a.example.com"}"#;
        assert_eq!(parse(line), Some((at("[::1]:34624"), Some(at("127.77.0.1:50914")))));
    }

    #[test]
    fn one_that_was_rejected_and_one_whose_server_was_away_have_none() {
        let line = r#"{"client":"127.0.0.1","client_port":"45716","source":"-","source_port":"-","state":"PR","sni":"b.example.com"}"#;
        assert_eq!(parse(line), Some((at("127.0.0.1:45716"), None)));
        let line = r#"{"client":"127.0.0.1","client_port":"45758","source":"127.77.0.1","source_port":"50924","state":"SC","sni":"a.example.com"}"#;
        assert_eq!(parse(line), Some((at("127.0.0.1:45758"), None)));
    }

    #[test]
    fn what_haproxy_says_of_itself_is_passed_over() {
        assert_eq!(parse("[NOTICE]   (6151) : haproxy version is 2.6.12-1+deb12u4"), None);
        assert_eq!(parse(""), None);
    }
}
