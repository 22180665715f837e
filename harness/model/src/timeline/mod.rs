//! A timeline: the deployment changes while clients run through it.
//!
//! [`Timeline`] is how a scenario file says it, [`plan`] what it comes to for one case, [`record`] what was seen.

pub mod plan;
pub mod record;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::change::{Change, Target};
use super::scenario::{Connect, RefusedExpect};
use super::text::{Text, Texts};
use super::when::When;

/// What happens, to whom, and what each kind of client must see. A timeline has an installation of the deployment of its own: CA,
/// Secrets, servers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// What the installation has beside the server: `replica`, `gateway`, `site`.
    #[serde(default)]
    pub with: Vec<Target>,
    /// Done before the clients start.
    #[serde(default)]
    pub setup: Vec<Change<Text>>,
    /// The clients by name. Each runs from the first phase to the end of the last.
    pub clients: IndexMap<String, TimelineClient>,
    /// What is done, in order.
    pub phases: Vec<Phase>,
    /// How long each client may have been without service over the whole timeline. A client that is not named is not bounded.
    #[serde(default)]
    #[schemars(with = "Vec<OutageExpect>")]
    pub outages: Vec<Spanned<OutageExpect>>,
}

/// A client that runs through a timeline at a steady rate.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimelineClient {
    /// How it uses sessions.
    pub kind: ClientKind,
    /// The connection. `identity` and `trust` are `client` (the default), `site` or `none`: the mounted Secrets.
    #[serde(default)]
    pub connect: Connect,
    /// `pool`: the age from which a session is not used again, such as `150ms`.
    #[serde(default)]
    pub max_age: Option<Text>,
    /// How long it waits for a connection to be opened, and for the answer to a query, such as `500ms`: libpq's `connect_timeout`, Django's
    /// statement timeout. Absent: longer than a phase takes.
    #[serde(default)]
    pub limit: Option<Text>,
}

/// How a client uses sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ClientKind {
    /// One session from the start that keeps querying. Once it is lost it is not opened again.
    Held,
    /// A session that is used again until it has its maximum age, then closed, and a new one opened: Django's `CONN_MAX_AGE`.
    Pool,
    /// A new connection every time.
    New,
    /// Streaming replication from `postgres` to `replica`: a change on the primary must arrive.
    Replication,
}

/// A stretch of a timeline: some changes, then every client goes on until it has shown what it sees now.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// One line.
    pub title: String,
    /// Done in order, while the clients run.
    #[serde(default, rename = "do")]
    pub changes: Vec<Change<Text>>,
    /// The first row whose `when` holds is the expectation.
    #[schemars(with = "Vec<PhaseExpect>")]
    pub expect: Vec<Spanned<PhaseExpect>>,
}

/// What must be seen after a phase's changes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseExpect {
    /// Which cases the row is for; absent: all.
    #[serde(default)]
    pub when: When,
    /// What each client sees. Every client of the timeline must be named.
    pub clients: IndexMap<String, ClientExpect>,
    /// The documented text, contained in the message of refused clients that speak OpenSSL's texts (libpq, psycopg2, redis-py).
    #[serde(default)]
    pub text: Option<Text>,
    /// Texts that the server's log lines of every refused connection must hold.
    #[serde(default)]
    pub server_log: Option<Texts>,
    /// Texts that the log must hold since the phase began, in lines that belong to no connection. The log is that of `on`.
    #[serde(default)]
    pub server_says: Option<Texts>,
    /// Whose log `server_says` is about; absent: the scenario's server.
    #[serde(default)]
    pub on: Option<Target>,
    /// A change of this phase is refused by its target (a bad file at reload or start), with these texts.
    #[serde(default)]
    pub objection: Option<Texts>,
    /// The Certificate whose certificate new sessions must be shown: `NAME` for the present one, `NAME@1` for the first.
    #[serde(default)]
    pub server_certificate: Option<Text>,
    /// The claims that this row bears on, in place of the scenario's.
    #[serde(default)]
    pub claims: Option<Vec<Text>>,
}

/// What a client sees once a phase's changes are done.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientExpect {
    /// Every attempt succeeds.
    Ok,
    /// Every attempt that needs a new connection is refused with one of these classes. A pool may go on with sessions that it still has.
    Refused(RefusedExpect),
    /// The same while something is stopped: sessions end, and new connections are refused with one of these classes.
    Away(RefusedExpect),
    /// It succeeds again, after attempts that may fail while the target is away: for phases that restart something.
    Recovers,
    /// `held`: its session ends in this phase, or has ended before.
    Lost,
    /// `held`: its query waits for an answer that does not come while the phase lasts. The session is still there.
    Waits,
}

/// A bound of the time that clients are without service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutageExpect {
    /// Which cases the row is for; absent: all.
    #[serde(default)]
    pub when: When,
    /// Client to its bound. Every row whose `when` holds counts.
    pub clients: IndexMap<String, OutageBound>,
}

/// A bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutageBound {
    /// No attempt fails.
    None,
    /// At least one attempt fails, all outages together last at most so many milliseconds, and the last attempt succeeds.
    AtMostMs(u64),
    /// The same, or no attempt fails: for what may be over between two attempts, such as a restart.
    WithinMs(u64),
    /// At least one attempt fails, and the last one does too.
    Open,
}
