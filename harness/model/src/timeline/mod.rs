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
use super::scenario::connect::Connect;
use super::scenario::refused::RefusedExpect;
use super::text::{Text, Texts};
use super::when::When;

/// What happens, to whom, and what each client must see. Each case of a timeline gets an installation of the deployment of its own: CA,
/// Secrets, mounts, servers.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// What the installation has beside the server: `replica`, `gateway`, `site`.
    #[serde(default)]
    pub with: Vec<Target>,
    /// Changes before the servers start.
    #[serde(default)]
    pub setup: Vec<Change<Text>>,
    /// The clients by name. Each runs from the first phase to the end of the last, with one attempt every 25 ms.
    pub clients: IndexMap<String, TimelineClient>,
    /// The phases, in order. The first has no `do`.
    pub phases: Vec<Phase>,
    /// How long each client may be without service, over the whole timeline. A client that is not named is not bounded.
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
    /// The connection. `identity` and `trust` are mounts: `client` (the Secret of the global cluster's pods; the default), `site` (`with:
    /// [site]`) or `none`. A client reads its files at every connection.
    #[serde(default)]
    pub connect: Connect,
    /// For `pool`: the age from which a session is not used again, such as `150ms`.
    #[serde(default)]
    pub max_age: Option<Text>,
    /// How long it waits to be connected, and for the answer to a query, such as `500ms`, before it gives up: libpq's `connect_timeout`,
    /// redis-py's `socket_timeout`. The class is then `{timed-out: STAGE}`, and a session whose query is given up is lost. A phase in which
    /// a server hangs needs one for every client of kind `pool` or `new`. It holds before the fault, too: make it far more than a call
    /// takes on a busy machine. psycopg2 can't tell how far a connection had come, so that its timeouts have no class. Absent: longer than
    /// a phase takes.
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

/// Some changes, then every client goes on until it has shown what it sees: five new connections, two by the pool, three queries. Only
/// attempts that began after the last change count.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// One line for the report.
    pub title: String,
    /// Changes, made in order, each when the one before is done.
    #[serde(default, rename = "do")]
    pub changes: Vec<Change<Text>>,
    /// The first row whose `when` holds counts.
    #[schemars(with = "Vec<PhaseExpect>")]
    pub expect: Vec<Spanned<PhaseExpect>>,
}

/// What must be seen after a phase's changes. Client, server log and wire must agree on every connection, as everywhere.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhaseExpect {
    /// The cases that the row is for, as in a step's `expect`; absent: all that are left.
    #[serde(default)]
    pub when: When,
    /// Every client of the timeline, and what it sees.
    pub clients: IndexMap<String, ClientExpect>,
    /// Words that the message of every refused connection must hold, as in a step's `expect`.
    #[serde(default)]
    pub text: Option<Text>,
    /// Texts that the server's lines about every refused connection must hold. A paused server writes no log.
    #[serde(default)]
    pub server_log: Option<Texts>,
    /// Texts of log lines since the phase began that belong to no connection.
    #[serde(default)]
    pub server_says: Option<Texts>,
    /// The server whose log `server_says` is about, such as `replica`; absent: the scenario's.
    #[serde(default)]
    pub on: Option<Target>,
    /// A change of this phase is not taken, with these words: a bad file at reload (the old one stays in use) or at start (the server stays
    /// down). Without it, a change that is not taken fails the phase.
    #[serde(default)]
    pub objection: Option<Texts>,
    /// The Certificate whose certificate new sessions must be shown: `C` for the present one, `C@1` for the first.
    #[serde(default)]
    pub server_certificate: Option<Text>,
    /// Claims that this row bears on, in place of the scenario's.
    #[serde(default)]
    pub claims: Option<Vec<Text>>,
}

/// What a client sees once a phase's changes are done.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientExpect {
    /// Every attempt is served.
    Ok,
    /// Every attempt that needs a new connection is refused so, or with one of a list. A pool may go on with the session that it has.
    Refused(RefusedExpect),
    /// The same while something is stopped, killed or hangs: sessions end, too.
    Away(RefusedExpect),
    /// It is served again, after attempts that may fail: for phases that restart something.
    Recovers,
    /// For `held`: its session has ended.
    Lost,
    /// For `held`: its query gets no answer while the phase lasts, and the session stays: while a server hangs. Without a `limit` that ends
    /// it.
    Waits,
}

/// A bound of the time that clients are without service.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutageExpect {
    /// The cases that the row is for; absent: all.
    #[serde(default)]
    pub when: When,
    /// Client to its bound. Every row whose `when` holds counts.
    pub clients: IndexMap<String, OutageBound>,
}

/// A bound of an outage: from the beginning of the first attempt that failed to the end of the first that was served again. A client that
/// waits has no outage, however long: its longest answer (`latency.max_ms`) tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutageBound {
    /// No attempt of the client fails.
    None,
    /// There is an outage, and it ends. How long it lasts follows from the phases that it goes through, each of which has its own limit.
    Ends,
    /// There is an outage, it ends, and all together last at most so many milliseconds.
    AtMostMs(u64),
    /// The same or none, for what may be over between two attempts, such as a restart.
    WithinMs(u64),
    /// The last attempt fails.
    Open,
}
