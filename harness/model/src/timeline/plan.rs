//! A timeline for one case: names resolved, one expectation a phase.

use std::time::Duration;

use serde::Serialize;

use super::{ClientKind, OutageBound};
use crate::change::{Change, Target};
use crate::connect_plan::ConnectPlan;
use crate::network::{Networks, NoNetwork};
use crate::refusal::Refusal;

/// The timeline of one case, with `${axis}` replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TimelinePlan {
    /// What the installation has beside the server.
    pub with: Vec<Target>,
    /// Done before the clients start.
    pub setup: Vec<Change<String>>,
    /// The clients in the file's order. Each runs from the first phase to the end of the last.
    pub clients: Vec<ClientPlan>,
    /// What is done, in order.
    pub phases: Vec<PhasePlan>,
    /// Client to its bound over the whole timeline.
    pub outages: Vec<(String, OutageBound)>,
}

impl TimelinePlan {
    /// All changes, those of the set-up first.
    pub fn changes(&self) -> impl Iterator<Item = &Change<String>> {
        self.setup.iter().chain(self.phases.iter().flat_map(|phase| &phase.changes))
    }
}

/// A client of a timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientPlan {
    /// Its name in the scenario.
    pub name: String,
    /// How it uses sessions.
    pub kind: ClientKind,
    /// The connection; `identity` and `trust` name mounts.
    pub connect: ConnectPlan,
    /// [`ClientKind::Pool`]: the age from which a session is not used again.
    pub max_age: Duration,
    /// How long it waits for the answer to a call; `None`: as long as the run's limit lets it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Duration>,
}

/// A phase of a case's timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhasePlan {
    /// One line that names the phase in reports and errors.
    pub title: String,
    /// What is changed, in this order; the clients run on meanwhile.
    pub changes: Vec<Change<String>>,
    /// What must be seen.
    pub expectation: PhaseExpectation,
}

/// What must be seen after a phase's changes: [`super::PhaseExpect`] with its names resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhaseExpectation {
    /// Client to what it sees.
    pub clients: Vec<(String, ClientExpectation)>,
    /// Documented words that the message of every refused client must hold; `None`: not asserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Texts of every refused connection's log lines.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub server_log: Vec<String>,
    /// Texts of log lines that belong to no connection, since the phase began.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub server_says: Vec<String>,
    /// Whose log that is.
    pub on: Target,
    /// A change is refused with these texts; `None`: every change is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objection: Option<Vec<String>>,
    /// The Certificate that new sessions must be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_certificate: Option<String>,
}

/// What a client must see in a phase: [`super::ClientExpect`] with its classes as a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientExpectation {
    /// Every attempt of the client is served.
    Ok,
    /// Every attempt that needs a new connection is refused with one of these classes.
    Refused(Vec<Refusal>),
    /// Sessions end, and every attempt that needs a new connection is refused with one of these classes.
    Away(Vec<Refusal>),
    /// The client is served again at the end of the phase, after attempts that may fail.
    Recovers,
    /// The held session is gone.
    Lost,
    /// The held session's query waits for its answer.
    Waits,
}

impl TimelinePlan {
    /// The timeline as it is in an environment with these networks, its references to them filled in.
    pub(crate) fn at(&self, networks: &Networks) -> Result<Self, NoNetwork> {
        let client = |client: &ClientPlan| Ok(ClientPlan { connect: client.connect.at(networks)?, ..client.clone() });
        Ok(Self {
            setup: changes(&self.setup, networks)?,
            clients: self.clients.iter().map(client).collect::<Result<_, _>>()?,
            phases: self.phases.iter().map(|phase| phase.at(networks)).collect::<Result<_, _>>()?,
            ..self.clone()
        })
    }
}

impl PhasePlan {
    fn at(&self, networks: &Networks) -> Result<Self, NoNetwork> {
        let expected = &self.expectation;
        let expectation = PhaseExpectation {
            text: networks.fill_optional(expected.text.as_ref())?,
            server_log: networks.fill_all(&expected.server_log)?,
            server_says: networks.fill_all(&expected.server_says)?,
            objection: expected.objection.as_ref().map(|texts| networks.fill_all(texts)).transpose()?,
            ..expected.clone()
        };
        Ok(Self { title: self.title.clone(), changes: changes(&self.changes, networks)?, expectation })
    }
}

/// Only lines of pg_hba.conf name networks; loading refuses them elsewhere.
fn changes(changes: &[Change<String>], networks: &Networks) -> Result<Vec<Change<String>>, NoNetwork> {
    changes.iter().map(|change| change.try_map(&mut |text: &String| networks.fill(text))).collect()
}
