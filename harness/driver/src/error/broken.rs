//! What makes a client break off that had been started.

use std::io;

use super::program::ProgramEnd;

/// A client failed in the middle of a request.
#[derive(Debug, thiserror::Error)]
pub enum BrokenError {
    /// Its program has ended, or was stopped for what it did.
    #[error("{source} {end}")]
    Ended {
        /// Why no more answers can come.
        source: ExchangeError,
        /// How it ended, and what it wrote last.
        end: ProgramEnd,
    },
    /// Its program is just being stopped: why, nobody has found out yet.
    #[error("it is ending")]
    Ending,
    /// [`Driver::close`](crate::Driver::close) was called before.
    #[error("it is closed already")]
    Closed,
    /// The request holds something that JSON can't, such as a path that is not UTF-8.
    #[error("the request can't be written as JSON: {0}")]
    Request(#[source] serde_json::Error),
    /// The program answered a request to connect as one may answer another request.
    #[error("it answered a connection with something that is no observation")]
    NoObservation,
    /// The program answered a query as one may answer another request.
    #[error("it answered a query of session {session} with something that is no answer to a query")]
    NoQueryAnswer {
        /// The number of the request that opened the session.
        session: u64,
    },
    /// An earlier query of this session ended in an error, so that nobody knows what state it is in.
    #[error("the session was lost in the query before")]
    SessionLost,
    /// The client itself says that it failed: its own words.
    #[error("{0}")]
    Reported(String),
    /// This machine has no descriptor, port or memory left for the connection.
    #[error("connecting to {to} failed on this machine's side: {source}; run fewer cases at once (--jobs) or raise the limit")]
    Exhausted {
        /// The address or the socket's path.
        to: String,
        /// What socket(2), bind(2) or connect(2) said.
        source: io::Error,
    },
}

/// The exchange of lines with a program can't go on.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// It has ended, or will give no more answers.
    #[error("it closed its output")]
    OutputClosed,
    /// Reading failed, or a line is not UTF-8.
    #[error("its output can't be read: {0}")]
    Unreadable(#[source] io::Error),
    /// A line is not JSON, or has other fields.
    #[error("it wrote a line that is no answer: {source}; the line: {line}")]
    NoAnswer {
        /// Where in the line, and what was expected.
        source: serde_json::Error,
        /// The line without the passwords that the program was given, cut off where it is long.
        line: String,
    },
    /// The number of an answer is none of those that wait for one.
    #[error("it answered request {id}, which is not in flight")]
    UnknownRequest {
        /// The number that it gave.
        id: u64,
    },
    /// No slot is left for another request, and none will become free.
    #[error("it was stopped, since every request that it was given hangs")]
    EveryRequestHangs,
    /// The protocol asks it to end then.
    #[error("it was stopped, since it did not end when its input was closed")]
    InputEndIgnored,
}
