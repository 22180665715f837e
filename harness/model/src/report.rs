//! The report: the fold of a run's events, versioned.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::claim::{Subject, Verdict};
use super::driver::DriverInfo;
use super::network::Networks;
use super::observation::{Observation, Phases};
use super::outcome::{Outcome, OutcomeKind};
use super::timeline::ClientKind;
use super::timeline::record::TimelineRecord;

/// The report format's version: raised when a reader of the old one could go wrong.
pub const SCHEMA_VERSION: u32 = 2;

/// A program or library that the run used or looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    /// `postgres-17`, `redis`, `openssl`, ...
    pub name: String,
    /// What it says of itself; absent where it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The TLS library it uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_library: Option<String>,
    /// Where it comes from: `distribution`, `toolchain`, ...
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// What its absence costs, and what brings it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}

/// Where a run took place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentRecord {
    /// The name that `--environment` took: `local` or `container`.
    pub name: String,
    /// The harness's own version.
    pub harness: String,
    /// Operating system and architecture.
    pub platform: String,
    /// Processors that it may use.
    pub cpus: usize,
    /// The subjects that are real in this environment.
    pub real_subjects: Vec<Subject>,
    /// Servers and tools, found and missing.
    pub components: Vec<Component>,
    /// Drivers that were found, with the versions of their libraries.
    pub drivers: Vec<DriverInfo>,
    /// The networks that scenarios name, with the range and the client's address that were used.
    #[serde(default, skip_serializing_if = "Networks::is_empty")]
    pub networks: Networks,
    /// Who ran what; absent in reports of an older harness.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<RunUsers>,
}

/// The users of the machine that a run's processes ran as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunUsers {
    /// Who ran the harness: `root`, or the number of a user.
    pub harness: String,
    /// Who servers ran as. Those of a harness that root runs are nobody else's: no other process has that user.
    pub servers: String,
    /// Who clients ran as, those in containers left out, which are never root. Those of a harness that root runs are neither root nor the
    /// servers' user.
    pub clients: String,
}

impl RunUsers {
    /// All of them in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let Self { harness, servers, clients } = self;
        if servers == harness && clients == harness {
            return format!("harness, servers and clients ran as {harness}");
        }
        format!("harness ran as {harness}, servers as {servers}, clients as {clients}")
    }
}

/// One step of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepRecord {
    /// What was expected, as in the scenario file, axes and networks replaced.
    pub expected: serde_json::Value,
    /// What each witness saw; absent where the step did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observation>,
    /// The command line, for steps that run one, with the paths of the machine that it ran on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What a command printed, for steps that run one; what the server said, where it did not start with the case's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// The client of a case's session, as latencies are grouped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    /// The name of the driver that made the connection.
    pub driver: String,
    /// `sslmode` (or Redis' `tls`), `unset` included.
    pub mode: String,
    /// `postgres`, `direct` or `none` (plaintext).
    pub negotiation: String,
}

/// One case with its outcome and all that was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseRecord {
    /// `<scenario>:<axis>=<value>,...`.
    pub id: String,
    /// The id of the scenario that the case is a cell of.
    pub scenario: String,
    /// Axis to value, `deployment` and `postgres` included.
    pub values: IndexMap<String, String>,
    /// How the server's files were written: `documented` or `cnpg`.
    pub deployment: String,
    /// How the case ended, with the mismatches or the reason.
    pub outcome: Outcome,
    /// Claims that it bears on.
    pub claims: Vec<String>,
    /// Its steps; none where it has a timeline.
    pub steps: Vec<StepRecord>,
    /// Its timeline as it went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<TimelineRecord>,
    /// The client of its last session, where one was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientRecord>,
    /// Phases of its last session, where one was established.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phases: Option<Phases>,
    /// Connections made, positive controls included.
    pub connections: u32,
    /// The case that served as its positive control, or the control's own connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// Wall time in milliseconds.
    pub duration_ms: f64,
    /// Where logs and files of a failed case stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<String>,
    /// Why that evidence, or a part of it, could not be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence_error: Option<String>,
    /// The command that repeats just this case.
    pub repro: String,
}

impl CaseRecord {
    /// How many steps were carried out: a client or a command came to an end.
    #[must_use]
    pub fn steps_done(&self) -> usize {
        self.steps.iter().filter(|step| step.observed.is_some() || step.output.is_some()).count()
    }
}

/// A claim's verdict in this run, with the cases that it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimRecord {
    /// The claim's id in `claims.yaml`.
    pub id: String,
    /// What the document says.
    pub statement: String,
    /// The document's file name and the heading that the statement stands under.
    pub source: String,
    /// The verdict of this run.
    pub verdict: Verdict,
    /// Why: what was observed instead, or why nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The verdict by deployment, where cases ran on several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub by_deployment: BTreeMap<String, Verdict>,
    /// Its subjects that were not real here, so that the verdict does not speak of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects_not_real: Vec<Subject>,
    /// Number of cases by outcome.
    pub outcomes: BTreeMap<OutcomeKind, usize>,
    /// Ids of the cases that bear on it.
    pub cases: Vec<String>,
}

/// Latencies of one phase over one group of sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LatencyRecord {
    /// The name of the driver whose sessions were measured.
    pub driver: String,
    /// `sslmode` (or Redis' `tls`), `unset` included.
    pub mode: String,
    /// `postgres`, `direct` or `none` (plaintext).
    pub negotiation: String,
    /// `connect`, `tcp`, `sslrequest`, `tls`, `auth`, `query`.
    pub phase: String,
    /// Number of sessions that were measured.
    pub count: u64,
    /// The median, in milliseconds.
    pub p50_ms: f64,
    /// The 95th percentile, in milliseconds.
    pub p95_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
    /// The longest duration, in milliseconds.
    pub max_ms: f64,
    /// HdrHistogram V2, base64, of nanoseconds.
    pub histogram: String,
}

/// One driver beside the reference in one situation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DivergenceRecord {
    /// Scenario and the axis values that are not the driver's.
    pub situation: String,
    /// `sslmode`, where the situation has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Driver to what it observed, in short: `tls session`, `plaintext session`, `alert: unknown-ca`.
    pub observed: BTreeMap<String, String>,
    /// Drivers that behave differently from the reference.
    pub divergent: Vec<String>,
}

/// How long one client of a timeline scenario was without service, over the scenario's cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutageRecord {
    /// The id of the timeline scenario.
    pub scenario: String,
    /// The client's name in it.
    pub client: String,
    /// How it uses sessions.
    pub kind: ClientKind,
    /// Number of cases of the scenario that ran.
    pub cases: usize,
    /// Cases in which an attempt failed.
    pub with_outage: usize,
    /// Cases in which the last attempt failed.
    pub to_the_end: usize,
    /// The shortest outage that ended, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortest_ms: Option<f64>,
    /// The longest outage that ended, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub longest_ms: Option<f64>,
    /// Classes of the refusals seen during outages, such as `alert: unknown-ca`; each once.
    pub refusals: BTreeSet<String>,
    /// How exactly the outages' ends are known, in milliseconds: of the one that is known least exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_to_ms: Option<f64>,
    /// The longest time between two attempts in any case, in milliseconds: a shorter outage could have gone unseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_ms: Option<f64>,
}

/// Totals of a run: counts, times and memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Totals {
    /// Number of all selected cases, skipped ones included.
    pub cases: usize,
    /// Cases by outcome; outcomes with no case are there with 0.
    pub outcomes: BTreeMap<OutcomeKind, usize>,
    /// Number of claims by verdict (`confirmed`, `refuted`, `not-exercised`).
    pub claims: BTreeMap<String, usize>,
    /// Connections made, controls included.
    pub connections: u64,
    /// Situations that at least two drivers were in, the reference one of them.
    pub compared_situations: usize,
    /// Cases that needed a restart or a wait: counted apart from the speed.
    pub slow_cases: Vec<String>,
    /// Wall time of the run in seconds, start-up of servers included.
    pub wall_seconds: f64,
    /// The part of it that the timelines took, in seconds.
    #[serde(default)]
    pub timeline_seconds: f64,
    /// Peak resident memory of the harness process in bytes.
    pub peak_memory_bytes: u64,
}

/// Everything but the cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The version of this format: raised when a reader of the older one could go wrong.
    pub schema_version: u32,
    /// When the run began, in UTC as RFC 3339 has it.
    pub started_at: String,
    /// What was asked for.
    pub command: Vec<String>,
    /// The machine and programs that the run took place with.
    pub environment: EnvironmentRecord,
    /// The run in numbers.
    pub totals: Totals,
    /// What the run says nothing about, though the input has it: rules for addresses that no client has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Problems of the run that belong to no case: stale deviations and the like.
    pub problems: Vec<String>,
    /// What the run made and could not remove, each with what was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<String>,
    /// Every claim of the set, exercised or not, in the order of `claims.yaml`.
    pub claims: Vec<ClaimRecord>,
    /// Situations in which drivers differ from the reference.
    pub divergence: Vec<DivergenceRecord>,
    /// Latencies by driver, mode, negotiation and phase; groups without a session are left out.
    pub latency: Vec<LatencyRecord>,
    /// Times without service in timelines, by scenario and client.
    #[serde(default)]
    pub outages: Vec<OutageRecord>,
}

/// The canonical report: one JSON document for a whole run. The other formats are made from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The version of this format: raised when a reader of the older one could go wrong.
    pub schema_version: u32,
    /// When the run began, in UTC as RFC 3339 has it.
    pub started_at: String,
    /// What was asked for.
    pub command: Vec<String>,
    /// The machine and programs that the run took place with.
    pub environment: EnvironmentRecord,
    /// The run in numbers.
    pub totals: Totals,
    /// What the run says nothing about, though the input has it: rules for addresses that no client has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Problems of the run that belong to no case.
    pub problems: Vec<String>,
    /// What the run made and could not remove, each with what was tried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_behind: Vec<String>,
    /// Every claim of the set, exercised or not, in the order of `claims.yaml`.
    pub claims: Vec<ClaimRecord>,
    /// Situations in which drivers differ from the reference.
    pub divergence: Vec<DivergenceRecord>,
    /// Latencies by driver, mode, negotiation and phase; groups without a session are left out.
    pub latency: Vec<LatencyRecord>,
    /// Times without service in timelines, by scenario and client.
    #[serde(default)]
    pub outages: Vec<OutageRecord>,
    /// Every case, by id.
    pub cases: Vec<CaseRecord>,
}
