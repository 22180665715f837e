//! What holds for any bytes that a server's log can hold. Property tests and the fuzz targets of `harness/fuzz` call these functions with
//! inputs of their own making; each panics where its property does not hold.

use super::record::LinePosition;
use super::{HaproxyLog, JsonLog, Parser, RedisLog};

/// PostgreSQL's jsonlog: a line names its connection by itself, whatever stands before it.
///
/// # Panics
/// Where that does not hold.
pub fn jsonlog(log: &[u8]) {
    for (line, place) in places(JsonLog, log) {
        assert_eq!(JsonLog.parse(line).and_then(|record| record.connection), place, "the same line alone");
        assert!(place.is_none_or(|place| place.session != LinePosition::LATEST || !place.opens), "an opening line has its own session");
    }
}

/// Redis's log: connections are counted as they are accepted, and a line that opens none belongs to one that was accepted or that it names.
///
/// # Panics
/// Where that does not hold.
pub fn redislog(log: &[u8]) {
    let mut accepted = Vec::new();
    for (line, place) in places(RedisLog::default(), log) {
        let Some(place) = place else { continue };
        if place.opens {
            accepted.push(place.peer);
            assert_eq!(place.session, accepted.len() as u64, "sessions are counted in the order of the log");
        } else {
            assert_eq!(place.session, LinePosition::LATEST, "no other line has a session");
            let named = RedisLog::default().parse(line).and_then(|record| record.connection);
            assert!(named == Some(place) || accepted.last() == Some(&place.peer), "{place:?} of {accepted:?}");
        }
    }
}

/// HAProxy's log: each line is a connection of its own, counted in the order of the log.
///
/// # Panics
/// Where that does not hold.
pub fn haproxylog(log: &[u8]) {
    for (number, (line, place)) in (1..).zip(places(HaproxyLog::default(), log)) {
        let place = place.expect("every line of HAProxy that is read is a connection's");
        assert!(place.opens && place.ends && place.session == number, "{place:?}");
        let alone = HaproxyLog::default().parse(line).expect("the same line alone").line;
        assert_eq!(alone.peer, Some(place.peer));
        // The detail holds nothing but the server's view of the address.
        assert_eq!(HaproxyLog::upstream(&alone).map(|upstream| upstream.to_string()), alone.detail);
    }
}

/// The lines of a log that its parser takes, and where in a connection's life each stands.
fn places(mut parser: impl Parser, log: &[u8]) -> Vec<(&[u8], Option<LinePosition>)> {
    let lines = log.split(|byte| *byte == b'\n');
    let records = lines.filter_map(|line| Some((line, parser.parse(line)?)));
    let checked = records.map(|(line, record)| {
        assert_eq!(record.line.peer, record.connection.map(|place| place.peer), "a line's address is that of its connection");
        (line, record.connection)
    });
    checked.collect()
}
