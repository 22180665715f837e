//! The JSON lines between the harness and a client program: one JSON object a line, UTF-8, on the program's standard input and output.
//!
//! `harness/clients/PROTOCOL.md` describes them for whoever writes a client. Both ends of ours (this harness and its libpq child) use these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::connect::ConnectRequest;
use crate::model::driver::DriverInfo;
use crate::model::observation::{ClientObservation, Phases};
use crate::model::refusal::Stage;

/// The version of the protocol that this harness speaks.
pub const PROTOCOL: u32 = 1;

/// Most requests in flight that a program may announce: more threads than this say nothing more about TLS.
pub const MAX_CONCURRENCY: u32 = 64;

/// The program's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Greeting {
    /// The only greeting.
    Hello(Hello),
}

/// Who the program is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// The client behind the program.
    pub driver: DriverInfo,
    /// How many requests it serves at once, from 1 to [`MAX_CONCURRENCY`].
    pub concurrency: u32,
}

/// One line to the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Chosen by the harness; never used twice in a program's life.
    pub id: u64,
    /// The program's time limit for the whole request, in milliseconds: it answers `timed-out` when it is over.
    pub limit_ms: u64,
    /// What to do.
    pub connect: ConnectRequest,
}

/// One line from the program, in any order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// The request's.
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
    /// The certificate chain.
    Certificate,
    /// The private key.
    Key,
    /// The trusted roots.
    Root,
}
