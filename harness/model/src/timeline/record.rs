//! What was seen of a timeline, for the report. All times are milliseconds since the clients' start, of a monotonic clock.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ClientKind;

/// A timeline as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimelineRecord {
    /// The phases that began, in order.
    pub phases: Vec<PhaseRecord>,
    /// The clients in the scenario's order.
    pub clients: Vec<ClientRecord>,
}

/// A phase as it went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseRecord {
    /// The phase's title in the scenario.
    pub title: String,
    /// When the phase began: before its first change.
    pub from_ms: f64,
    /// When its changes were done; absent where it didn't come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_ms: Option<f64>,
    /// When every client had shown what it sees; absent where it didn't come so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<f64>,
    /// The changes, a line each.
    pub changes: Vec<String>,
    /// What was expected, as in the scenario file, `${axis}` replaced.
    pub expected: serde_json::Value,
    /// What the target of a change said against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objection: Option<String>,
    /// Client to what it saw once the changes were done, in short: `ok`, `alert: unknown-ca`; several, where it saw several things.
    pub observed: BTreeMap<String, Vec<String>>,
}

/// A client over the whole timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientRecord {
    /// Its name in the scenario.
    pub name: String,
    /// How it uses sessions.
    pub kind: ClientKind,
    /// The driver; absent for streaming replication, whose client is the replica itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// What it tried: queries of a held session, uses of a pool, connections, changes to be replicated.
    pub attempts: u32,
    /// How many attempts failed, whether refused or without an answer.
    pub failures: u32,
    /// Connections that it opened.
    pub connections: u32,
    /// When it was without service.
    pub outages: Vec<Outage>,
    /// The longest time between the beginnings of two attempts next to each other: an outage shorter than this may go unseen, and none is
    /// known more exactly. Absent where there were fewer than two attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution_ms: Option<f64>,
    /// The attempts' durations; absent where none succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

/// Durations of the attempts that succeeded, in milliseconds. For streaming replication: from the commit to the replica's replay.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Latency {
    /// The median of the durations.
    pub p50_ms: f64,
    /// The longest of the durations.
    pub max_ms: f64,
}

/// A time without service: from the beginning of the first attempt that failed to the end of the first that succeeded after it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// The beginning of the first attempt that failed.
    pub from_ms: f64,
    /// The end of the first attempt that succeeded again; absent where none did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_ms: Option<f64>,
    /// How exactly its ends are known: the longer of the times between the beginnings of the last attempt that was served and the first that
    /// failed, and of the last that failed and the first that was served again.
    pub known_to_ms: f64,
    /// Attempts that failed in it.
    pub failures: u32,
    /// Refusal class to how often it was seen.
    pub refusals: BTreeMap<String, u32>,
    /// The first failure's message.
    pub text: String,
}
