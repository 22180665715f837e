//! Redis's log: `pid:role day month year time mark message`, where the mark is `.` debug, `-` verbose, `*` notice, `#` warning.
//!
//! `Accepted ADDRESS:PORT` opens a connection (log level verbose). Redis 7.2 and later name the client in
//! `Error accepting a client connection: ... (addr=ADDRESS:PORT laddr=...)` where it has not left yet; 7.0 names nobody. There the line is taken to belong to the
//! connection that was accepted last, which holds only while connections come one at a time.

use std::net::{IpAddr, SocketAddr};

use super::record::{LinePosition, Parser, Record};
use model::observation::LogLine;

/// The parser of that log. It remembers the connection that was accepted last: some lines name none.
#[derive(Debug, Default)]
pub struct RedisLog {
    /// The connections accepted so far.
    accepted: u64,
    /// The latest of them.
    latest: Option<SocketAddr>,
}

impl Parser for RedisLog {
    fn parse(&mut self, line: &[u8]) -> Option<Record> {
        let text = String::from_utf8_lossy(line);
        // 27121:M 24 Nov 2026 07:55:10.165 - Accepted 127.0.0.1:49052
        let mut words = text.splitn(7, ' ');
        let role = words.next()?;
        if !role.split_once(':').is_some_and(|(pid, role)| pid.parse::<u32>().is_ok() && role.len() == 1) {
            return None;
        }
        let severity = match words.nth(4)? {
            "." => "debug",
            "-" => "verbose",
            "*" => "notice",
            "#" => "warning",
            _ => return None,
        };
        let message = words.next()?;
        let connection = self.place(message);
        let line = LogLine {
            severity: severity.to_owned(),
            sqlstate: None,
            message: message.to_owned(),
            detail: None,
            peer: connection.map(|place| place.peer),
        };
        Some(Record { line, connection })
    }
}

impl RedisLog {
    fn place(&mut self, message: &str) -> Option<LinePosition> {
        if let Some(peer) = message.strip_prefix("Accepted ").and_then(address) {
            self.accepted += 1;
            self.latest = Some(peer);
            return Some(LinePosition { peer, session: self.accepted, opens: true, ends: false });
        }
        let ends = ["Error accepting a client connection", "Reading from client", "Client closed connection"]
            .iter()
            .any(|start| message.starts_with(start));
        let peer = match message.split_once(" addr=").or_else(|| message.split_once("(addr=")) {
            // A client that has left already has no address any more.
            Some((_, rest)) if rest.starts_with(' ') => self.latest.filter(|_| ends)?,
            // A unix socket's client has a path there: it is nobody's whom we know.
            Some((_, rest)) => address(rest.split([' ', ')']).next().unwrap_or(rest))?,
            None => self.latest.filter(|_| ends)?,
        };
        // Without a session of its own in the log, a named line belongs to the address's latest connection, whichever that is.
        Some(LinePosition { peer, session: LinePosition::LATEST, opens: false, ends })
    }
}

/// `127.0.0.1:49052`, `::1:49128` or `[::1]:49128`: the port is what follows the last colon.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let host: IpAddr = host.trim_start_matches('[').trim_end_matches(']').parse().ok()?;
    Some(SocketAddr::new(host, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Lines of a real Redis 7.0.15, unless said otherwise.

    #[test]
    fn an_accepted_connection_opens_and_a_nameless_error_belongs_to_the_latest() {
        let mut log = RedisLog::default();
        let accepted = log.parse(b"27121:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:49068").expect("a line");
        let place = accepted.connection.expect("a connection");
        assert_eq!(place.peer, "127.0.0.1:49068".parse().expect("an address"));
        assert!(place.opens);
        let error = log
            .parse(b"27121:M 24 Nov 2026 07:55:10.188 # Error accepting a client connection: error:0A0000C7:SSL routines::peer did not return a certificate")
            .expect("a line");
        let place = error.connection.expect("a connection");
        assert_eq!(place.peer, "127.0.0.1:49068".parse().expect("an address"));
        assert!(place.ends && !place.opens);
        assert_eq!(error.line.severity, "warning");
        assert_eq!(
            error.line.message,
            "Error accepting a client connection: error:0A0000C7:SSL routines::peer did not return a certificate"
        );
    }

    #[test]
    fn ipv6_addresses_come_without_brackets() {
        let mut log = RedisLog::default();
        let accepted = log.parse(b"27121:M 24 Nov 2026 07:55:10.353 - Accepted ::1:49128").expect("a line");
        assert_eq!(accepted.connection.expect("a connection").peer, "[::1]:49128".parse().expect("an address"));
    }

    #[test]
    fn an_error_that_names_its_client_belongs_to_that_client() {
        // The form of Redis 7.2 and later (src/networking.c).
        let mut log = RedisLog::default();
        log.parse(b"1:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:49068").expect("a line");
        log.parse(b"1:M 24 Nov 2026 07:55:10.185 - Accepted 127.0.0.1:49070").expect("a line");
        let error = log
            .parse(b"1:M 24 Nov 2026 07:55:10.188 # Error accepting a client connection: error:0A000086:SSL routines::certificate verify failed (addr=127.0.0.1:49068 laddr=127.0.0.1:16379)")
            .expect("a line");
        assert_eq!(error.connection.expect("a connection").peer, "127.0.0.1:49068".parse().expect("an address"));
    }

    #[test]
    fn an_error_about_a_client_that_has_left_belongs_to_the_latest() {
        // Redis 8.0.2.
        let mut log = RedisLog::default();
        log.parse(b"39:M 24 Nov 2026 15:33:35.490 - Accepted 192.168.249.7:34262").expect("a line");
        let error = log
            .parse(b"39:M 24 Nov 2026 15:33:35.497 # Error accepting a client connection: error:0A000418:SSL routines::tlsv1 alert unknown ca (addr= laddr=192.168.249.16:6379)")
            .expect("a line");
        assert_eq!(error.connection.expect("a connection").peer, "192.168.249.7:34262".parse().expect("an address"));
    }

    #[test]
    fn a_client_of_the_unix_socket_is_not_taken_for_the_latest_connection() {
        let mut log = RedisLog::default();
        log.parse(b"27121:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:49068").expect("a line");
        for line in [
            &b"27121:M 24 Nov 2026 07:55:10.185 - Accepted connection to /run/s/admin"[..],
            b"27121:M 24 Nov 2026 07:55:10.186 - Client closed connection id=7 addr=/run/s/admin:0 laddr=/run/s/admin:0 fd=9 name= age=0",
        ] {
            assert_eq!(log.parse(line).expect("a line").connection, None);
        }
    }

    #[test]
    fn the_servers_own_lines_belong_to_no_connection() {
        let mut log = RedisLog::default();
        log.parse(b"27121:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:49068").expect("a line");
        let ready = log.parse(b"27121:M 24 Nov 2026 07:55:09.669 * Ready to accept connections").expect("a line");
        assert_eq!(ready.connection, None);
        assert_eq!(ready.line.message, "Ready to accept connections");
    }

    #[test]
    fn each_mark_has_its_severity() {
        for (mark, severity) in [(".", "debug"), ("-", "verbose"), ("*", "notice"), ("#", "warning")] {
            let line = format!("27121:M 24 Nov 2026 07:55:09.669 {mark} Ready to accept connections");
            assert_eq!(RedisLog::default().parse(line.as_bytes()).expect("a line").line.severity, severity);
        }
    }

    #[test]
    fn a_line_begins_with_a_process_id_and_one_letter() {
        for begin in ["x:M", "27121:", "27121:MS", "27121", ":M"] {
            let line = format!("{begin} 24 Nov 2026 07:55:09.669 * Ready to accept connections");
            assert_eq!(RedisLog::default().parse(line.as_bytes()), None, "{begin}");
        }
    }

    #[test]
    fn what_is_no_log_line_is_passed_over() {
        let mut log = RedisLog::default();
        assert_eq!(log.parse(b"*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***"), None);
        assert_eq!(log.parse(b"27121:signal-handler (1795506910) Received SIGTERM scheduling shutdown..."), None);
        assert_eq!(log.parse(b""), None);
    }
}
