//! Properties of the readers of logs. `PROPTEST_CASES` says how many inputs of each.

use std::net::{IpAddr, SocketAddr};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{JsonLog, Parser, RedisLog};

/// A line of Redis's log with one byte changed, or any bytes.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let real = "1:M 24 Nov 2026 07:55:10\\.18[0-9] [-*#.] (Accepted |Reading from client: |Error accepting a client connection: |Client closed connection )?\
                (addr=|id=3 addr=|\\(addr=)?(127\\.0\\.0\\.1|::1|\\[::1\\]|)(:[0-9]{1,6})?( laddr=|\\))?";
    prop_oneof![
        4 => (real, any::<Option<(prop::sample::Index, u8)>>()).prop_map(|(text, change)| {
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
    fn redis_lines_never_panic_and_belong_to_a_connection_that_they_name_or_that_was_accepted(lines in vec(line(), 0..8)) {
        let mut log = RedisLog::default();
        let mut opened = 0;
        for line in &lines {
            let Some(record) = log.parse(line) else { continue };
            prop_assert_eq!(record.line.peer, record.connection.map(|place| place.peer));
            if let Some(place) = record.connection.filter(|place| place.opens) {
                opened += 1;
                prop_assert_eq!(place.session, opened, "sessions are counted in the order of the log");
            }
        }
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
    fn any_bytes_are_a_line_of_jsonlog_or_none(line in vec(any::<u8>(), 0..120)) {
        let _ = JsonLog.parse(&line);
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
