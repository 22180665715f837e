//! How a case ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::NoNetwork;

/// Who saw something else than expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Witness {
    /// The client, by what its library reports.
    Client,
    /// The server's own view of the session (`pg_stat_ssl`).
    Server,
    /// The server's log, by the lines that belong to the connection.
    ServerLog,
    /// The relay, by the bytes between client and server.
    Wire,
    /// A command's output or exit status.
    Command,
}

/// One difference between expectation and observation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mismatch {
    /// Which step, from 0.
    pub step: usize,
    /// The witness whose testimony differs from the expectation.
    pub witness: Witness,
    /// What is compared: `refused`, `client_dn`, `wire`, ...
    pub what: String,
    /// What should have been seen.
    pub expected: String,
    /// What was seen instead, in the witness's words.
    pub observed: String,
}

/// Why a case did not run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// The server of that version is not installed.
    ServerMissing(String),
    /// The driver is not installed, with what brings it.
    DriverMissing(String),
    /// The driver can't do what the step needs.
    DriverUnable(String),
    /// The machine lacks something: `::1`, the right to change an owner, ...
    MachineLacks(String),
    /// The environment can't do it.
    EnvironmentUnable(String),
    /// A failure elsewhere ended the run first (`--fail-fast`).
    FailFast,
    /// The run was interrupted.
    Interrupted,
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ServerMissing(what)
            | Self::DriverMissing(what)
            | Self::DriverUnable(what)
            | Self::MachineLacks(what)
            | Self::EnvironmentUnable(what) => f.write_str(what),
            Self::FailFast => f.write_str("another case failed and --fail-fast was given"),
            Self::Interrupted => f.write_str("the run was interrupted"),
        }
    }
}

impl From<NoNetwork> for SkipReason {
    fn from(missing: NoNetwork) -> Self {
        Self::EnvironmentUnable(missing.to_string())
    }
}

/// What failed where a case says nothing about the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// A server, a gateway or a container did not come up.
    Start,
    /// A running server did not take its configuration, or a change of a timeline could not be made.
    Configure,
    /// A server, a gateway or a container ended or hung while cases used it, or its log can't be read any more.
    Lost,
    /// A client program could not be started, broke off, or gave no usable answer.
    Client,
    /// The harness itself, the machine below it, or a failed positive control: nothing is known of the deployment.
    Harness,
    /// A limit of the harness was reached: time, ports, descriptors.
    Limit,
}

impl ErrorKind {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Configure => "configure",
            Self::Lost => "lost",
            Self::Client => "client",
            Self::Harness => "harness",
            Self::Limit => "limit",
        }
    }
}

impl std::fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// How a case ended. There is no default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every witness saw what was expected.
    Pass,
    /// At least one witness saw something else.
    Fail(Vec<Mismatch>),
    /// Something else was seen, exactly as a known deviation describes.
    Deviates {
        /// The id of the deviation in `deviations.yaml`.
        deviation: String,
    },
    /// A known deviation matches the case, but the case passed.
    UnexpectedPass {
        /// The id of the deviation in `deviations.yaml` that no longer holds.
        deviation: String,
    },
    /// It did not run.
    Skipped(SkipReason),
    /// The harness or its environment failed: nothing is known.
    Errored {
        /// Which part failed, to group errors by.
        kind: ErrorKind,
        /// What was tried, what was found, and where to read on.
        text: String,
    },
    /// It did not end within its time limit: which, and what it was doing.
    TimedOut(String),
}

/// [`Outcome`] without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OutcomeKind {
    /// Every witness saw what was expected.
    Pass,
    /// At least one witness saw something else than expected.
    Fail,
    /// Something else was seen, exactly as a known deviation describes: the run still conforms.
    Deviates,
    /// The case passed though a known deviation says that it does not: the deviation is to be removed.
    UnexpectedPass,
    /// The case did not run, for a reason that it names.
    Skipped,
    /// The harness or its environment failed, so that nothing is known.
    Errored,
    /// The case did not end within its time limit.
    TimedOut,
}

impl OutcomeKind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] = [Self::Pass, Self::Deviates, Self::Fail, Self::UnexpectedPass, Self::Errored, Self::TimedOut, Self::Skipped];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Deviates => "deviates",
            Self::UnexpectedPass => "unexpected-pass",
            Self::Skipped => "skipped",
            Self::Errored => "errored",
            Self::TimedOut => "timed-out",
        }
    }

    /// Whether the case says that something is not conformant.
    #[must_use]
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Fail | Self::UnexpectedPass)
    }

    /// Whether the case says nothing because harness or environment failed.
    #[must_use]
    pub fn is_error(self) -> bool {
        matches!(self, Self::Errored | Self::TimedOut)
    }
}

impl Outcome {
    /// The outcome without its details, for counting and grouping.
    #[must_use]
    pub fn kind(&self) -> OutcomeKind {
        match self {
            Self::Pass => OutcomeKind::Pass,
            Self::Fail(_) => OutcomeKind::Fail,
            Self::Deviates { .. } => OutcomeKind::Deviates,
            Self::UnexpectedPass { .. } => OutcomeKind::UnexpectedPass,
            Self::Skipped(_) => OutcomeKind::Skipped,
            Self::Errored { .. } => OutcomeKind::Errored,
            Self::TimedOut(_) => OutcomeKind::TimedOut,
        }
    }
}
