//! Servers' logs: each line read once, as soon as it is written, and kept by the connection it belongs to.

mod haproxylog;
mod index;
mod jsonlog;
mod redislog;
mod tailer;

pub(super) use haproxylog::HaproxyLog;
pub(super) use index::LogIndex;
pub(super) use jsonlog::JsonLog;
pub(super) use redislog::RedisLog;
pub(super) use tailer::Tailer;

use std::net::SocketAddr;

use model::observation::LogLine;

/// One line of a log, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The line; its `peer` is that of `connection`, where there is one.
    pub(super) line: LogLine,
    /// The connection it belongs to; `None` for the server's own lines.
    pub(super) connection: Option<Place>,
}

/// Where in a connection's life a line stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The client's address.
    pub(super) peer: SocketAddr,
    /// What tells this connection from an earlier one of the same address.
    pub(super) session: u64,
    /// The connection's first line.
    pub(super) opens: bool,
    /// No further line is to be expected after this one.
    pub(super) ends: bool,
}

/// Understands one server's log format.
pub(super) trait Parser: Send {
    /// One line without its line end; `None` for what isn't a line of the log.
    fn parse(&mut self, line: &[u8]) -> Option<Record>;
}

/// A line as a message quotes it.
pub(super) fn quote(line: &LogLine) -> String {
    let detail = line.detail.as_deref().map(|detail| format!(" ({})", detail.replace('\n', "; "))).unwrap_or_default();
    format!("{}: {}{detail}", line.severity, line.message)
}
