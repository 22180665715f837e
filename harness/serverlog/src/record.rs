//! A line of a log, understood, and what understands it.

use std::net::SocketAddr;

use model::observation::LogLine;

/// One line of a log, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The line; its `peer` is that of `connection`, where there is one.
    pub line: LogLine,
    /// The connection it belongs to; `None` for the server's own lines.
    pub connection: Option<LinePosition>,
}

/// Where in a connection's life a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinePosition {
    /// The client's address and port, as the server saw them.
    pub peer: SocketAddr,
    /// What tells this connection from an earlier one of the same address.
    pub session: u64,
    /// The connection's first line.
    pub opens: bool,
    /// No further line is to be expected after this one.
    pub ends: bool,
}

/// Understands one server's log format.
pub trait Parser: Send {
    /// One line without its line end; `None` for what isn't a line of the log.
    fn parse(&mut self, line: &[u8]) -> Option<Record>;
}

/// A line as a message quotes it.
pub fn quote(line: &LogLine) -> String {
    let detail = line.detail.as_deref().map(|detail| format!(" ({})", detail.replace('\n', "; "))).unwrap_or_default();
    format!("{}: {}{detail}", line.severity, line.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_quoted_with_its_detail_in_one_line() {
        let line = |detail: Option<&str>| LogLine {
            severity: "LOG".to_owned(),
            sqlstate: None,
            message: "could not load ca.crt".to_owned(),
            detail: detail.map(str::to_owned),
            peer: None,
        };
        assert_eq!(quote(&line(None)), "LOG: could not load ca.crt");
        assert_eq!(quote(&line(Some("first\nsecond"))), "LOG: could not load ca.crt (first; second)");
    }
}
