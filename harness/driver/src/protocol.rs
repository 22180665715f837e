//! The JSON lines between the harness and a client program: one JSON object a line, UTF-8, on the program's standard input and output.
//!
//! `harness/clients/PROTOCOL.md` describes them for whoever writes a client. Both ends of ours (this harness and its libpq child) use these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use model::connect::ConnectRequest;
use model::driver::DriverInfo;
use model::observation::{ClientObservation, Phases};
use model::refusal::Stage;

/// The version of the protocol that this harness speaks.
pub const PROTOCOL: u32 = 1;

/// Most requests in flight that a program may announce: more threads than this say nothing more about TLS.
pub const MAX_CONCURRENCY: u32 = 64;

/// The program's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Greeting {
    /// There is no other; the name tells a greeting from an answer.
    Hello(Hello),
}

/// Who the program is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// The version that the program speaks: [`PROTOCOL`], or it is refused.
    pub protocol: u32,
    /// The client behind the program.
    pub driver: DriverInfo,
    /// How many connections it makes at once, from 1 to [`MAX_CONCURRENCY`]: [`Operation::Connect`] and [`Operation::Open`] count.
    pub concurrency: u32,
    /// Whether it keeps sessions open, and so understands [`Operation::Open`], [`Operation::Query`] and [`Operation::Close`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sessions: bool,
}

/// One line to the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RequestLine", into = "RequestLine")]
pub struct Request {
    /// Chosen by the harness; never used twice in a program's life.
    pub id: u64,
    /// The program's time limit for the whole request, in milliseconds: it answers `timed-out` when it is over.
    pub limit_ms: u64,
    /// What the program is to do, written as one field of its name.
    pub operation: Operation,
}

/// What a program is asked for. A session goes by the id of the request that opened it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Connect, look at the session, close it.
    Connect(ConnectRequest),
    /// The same, but keep the session.
    Open(ConnectRequest),
    /// Ask the server something small over this session.
    Query(u64),
    /// Close this session in order; the answer comes when that is done.
    Close(u64),
}

/// A [`Request`] as it is written: `id`, `limit_ms`, and one of the others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestLine {
    id: u64,
    limit_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    connect: Option<ConnectRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<ConnectRequest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    close: Option<u64>,
}

impl From<Request> for RequestLine {
    fn from(Request { id, limit_ms, operation }: Request) -> Self {
        let line = Self { id, limit_ms, connect: None, open: None, query: None, close: None };
        match operation {
            Operation::Connect(request) => Self { connect: Some(request), ..line },
            Operation::Open(request) => Self { open: Some(request), ..line },
            Operation::Query(session) => Self { query: Some(session), ..line },
            Operation::Close(session) => Self { close: Some(session), ..line },
        }
    }
}

impl TryFrom<RequestLine> for Request {
    type Error = &'static str;

    fn try_from(line: RequestLine) -> Result<Self, Self::Error> {
        let operation = match (line.connect, line.open, line.query, line.close) {
            (Some(request), None, None, None) => Operation::Connect(request),
            (None, Some(request), None, None) => Operation::Open(request),
            (None, None, Some(session), None) => Operation::Query(session),
            (None, None, None, Some(session)) => Operation::Close(session),
            _ => return Err("expected exactly one of `connect`, `open`, `query` and `close`"),
        };
        Ok(Self { id: line.id, limit_ms: line.limit_ms, operation })
    }
}

/// One line from the program, in any order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The id of the request that is answered.
    pub id: u64,
    /// What came of it.
    pub result: Outcome,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A session; or a refusal that the program classified itself, as programs of family `other` must.
    Observation(ClientObservation),
    /// A refusal as the client told it: the harness classifies the text by the program's family.
    Refused(Failure),
    /// The limit was over first.
    TimedOut(Failure),
    /// The server answered the query of an open session.
    Answered,
    /// The session is closed.
    Closed,
    /// The client has no way to do this: nothing was tried.
    Unable(String),
    /// The program itself failed: nothing is known about the server.
    Error(String),
}

/// A failure in the client's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failure {
    /// The client's whole message; bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
    /// How far the last attempt had come, if the client can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// SQLSTATE, if the client gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<String>,
    /// The file that could not be used, where the text does not name it and the program knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<File>,
    /// What the program found out beside the client's message, in words of the same kind: such as the alert that the client left unread.
    /// It counts where the message tells only of a closed connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The phases that were completed.
    #[serde(default)]
    pub phases: Phases,
    /// The settings of the application's configuration file, where the client loads one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
}

/// One of the client's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum File {
    /// The client's certificate chain: `sslcert`.
    Certificate,
    /// The client's private key: `sslkey`.
    Key,
    /// The roots that the server is verified against: `sslrootcert`.
    Root,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_of_a_session_names_it_by_the_id_that_opened_it() {
        for (line, operation) in
            [(r#"{"id":9,"limit_ms":50,"query":7}"#, Operation::Query(7)), (r#"{"id":9,"limit_ms":50,"close":7}"#, Operation::Close(7))]
        {
            let request = Request { id: 9, limit_ms: 50, operation };
            assert_eq!(serde_json::to_string(&request).expect("it can be written"), line);
            assert_eq!(serde_json::from_str::<Request>(line).expect("it can be read"), request);
        }
    }

    #[test]
    fn a_request_for_two_things_or_none_or_something_unknown_is_refused() {
        for line in
            [r#"{"id":9,"limit_ms":50}"#, r#"{"id":9,"limit_ms":50,"query":7,"close":7}"#, r#"{"id":9,"limit_ms":50,"query":7,"cancel":7}"#]
        {
            assert!(serde_json::from_str::<Request>(line).is_err(), "{line}");
        }
    }

    #[test]
    fn an_outcome_without_anything_to_tell_is_a_word() {
        let answer = Answer { id: 9, result: Outcome::Answered };
        assert_eq!(serde_json::to_string(&answer).expect("it can be written"), r#"{"id":9,"result":"answered"}"#);
    }
}
