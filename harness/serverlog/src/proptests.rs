//! Properties of the readers of logs. `PROPTEST_CASES` says how many inputs of each.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{HaproxyLog, JsonLog, Parser, RedisLog, properties};

/// Two lines of PostgreSQL 17.
const JSONLOG: &str = concat!(
    r#"{"timestamp":"2026-11-24 07:54:47.127 UTC","pid":26474,"remote_host":"127.0.0.1","remote_port":39560,"session_id":"6b0542c7.676a","error_severity":"LOG","message":"connection received: host=127.0.0.1 port=39560"}"#,
    "\n",
    r#"{"timestamp":"2026-11-24 07:54:47.367 UTC","pid":26474,"remote_host":"127.0.0.1","remote_port":39560,"session_id":"6b0542c7.676a","error_severity":"FATAL","state_code":"28000","message":"no pg_hba.conf entry","detail":"x"}"#,
);

/// Two lines of HAProxy 2.6.
const HAPROXY: &str = concat!(
    r#"{"client":"::1","client_port":"34624","source":"127.77.0.1","source_port":"50914","state":"--","sni":"a.example.com"}"#,
    "\n",
    r#"{"client":"127.0.0.1","client_port":"45716","source":"-","source_port":"-","state":"PR","sni":"b.example.com"}"#,
);

/// A text with other bytes at some places, and cut short.
fn mangled(text: &str, changes: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for (place, byte) in changes {
        *place.get_mut(&mut bytes) = *byte;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len()));
    }
    bytes
}

/// A line of Redis's log with one byte changed, or any bytes.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let real = "1:M 24 Nov 2026 07:55:10\\.18[0-9] [-*#.] (Accepted |Reading from client: |Error accepting a client connection: |Client closed connection )?\
                (addr=|id=3 addr=|\\(addr=)?(127\\.0\\.0\\.1|::1|\\[::1\\]|)(:[0-9]{1,6})?( laddr=|\\))?";
    prop_oneof![
        4 => (real, any::<Option<(Index, u8)>>()).prop_map(|(text, change)| {
            let mut bytes = text.into_bytes();
            if let Some((place, byte)) = change {
                *place.get_mut(&mut bytes) = byte;
            }
            bytes
        }),
        1 => vec(any::<u8>(), 0..80),
    ]
}

proptest! {
    #[test]
    fn redis_lines_belong_to_a_connection_that_they_name_or_that_was_accepted(lines in vec(line(), 0..8)) {
        properties::redislog(&lines.join(&b'\n'));
    }

    #[test]
    fn an_address_of_redis_is_read_back(host: IpAddr, port: u16, brackets: bool) {
        let peer = SocketAddr::new(host, port);
        let written = if brackets { peer.to_string() } else { format!("{host}:{port}") };
        let line = format!("27121:M 24 Nov 2026 07:55:10.165 - Accepted {written}");
        let record = RedisLog::default().parse(line.as_bytes()).expect("a line");
        prop_assert_eq!(record.line.peer, Some(peer));
    }

    #[test]
    fn any_bytes_are_a_line_of_a_log_or_none(line in vec(any::<u8>(), 0..120)) {
        properties::jsonlog(&line);
        properties::redislog(&line);
        properties::haproxylog(&line);
    }

    #[test]
    fn a_line_of_jsonlog_with_other_bytes_is_one_or_none(changes in vec((any::<Index>(), any::<u8>()), 0..4), cut in any::<Option<Index>>()) {
        properties::jsonlog(&mangled(JSONLOG, &changes, cut));
    }

    #[test]
    fn lines_of_haproxy_with_other_bytes_are_connections_or_none(changes in vec((any::<Index>(), any::<u8>()), 0..4), cut in any::<Option<Index>>()) {
        properties::haproxylog(&mangled(HAPROXY, &changes, cut));
    }

    #[test]
    fn a_connection_of_haproxy_has_both_addresses_unless_the_server_was_never_reached(
        client: SocketAddr, source: SocketAddr, cause in "[-CScs]", stage in "[-RCQHDLT]", sni in "[a-z.]{0,20}",
    ) {
        let line = serde_json::json!({
            "client": client.ip(), "client_port": client.port().to_string(), "source": source.ip(), "source_port": source.port().to_string(),
            "state": format!("{cause}{stage}"), "sni": sni,
        });
        let record = HaproxyLog::default().parse(line.to_string().as_bytes()).expect("a line");
        let source = SocketAddr::new(source.ip(), source.port());
        prop_assert_eq!(record.line.peer, Some(SocketAddr::new(client.ip(), client.port())));
        prop_assert_eq!(HaproxyLog::upstream(&record.line), Some(source).filter(|_| !matches!(&*stage, "C" | "Q")));
        prop_assert_eq!(record.line.message, format!("host name {sni}"));
    }

    #[test]
    fn a_line_of_jsonlog_keeps_its_fields_and_no_beginning_of_it_is_a_line(
        host: IpAddr, port: u16, start: u32, pid: u32, severity in "[A-Z]{1,8}", message: String, detail: Option<String>,
    ) {
        let text = serde_json::json!({
            "remote_host": host, "remote_port": port, "session_id": format!("{start:x}.{pid:x}"), "error_severity": severity,
            "message": message, "detail": detail, "unknown": [1, {"a": null}],
        })
        .to_string();
        let record = JsonLog.parse(text.as_bytes()).expect("a line");
        let place = record.connection.expect("a connection");
        prop_assert_eq!((place.peer, place.session), (SocketAddr::new(host, port), u64::from(start) << 32 | u64::from(pid)));
        prop_assert_eq!((&record.line.severity, &record.line.message, &record.line.detail), (&severity, &message, &detail));
        for length in 0..text.len() {
            prop_assert_eq!(JsonLog.parse(&text.as_bytes()[..length]), None, "the first {} bytes", length);
        }
    }
}
