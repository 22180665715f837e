//! A case: one cell of a scenario's matrix, every text resolved to its type.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;

use super::change::Target;
use super::connect::TlsVersion;
pub use super::connect_plan::{ConnectPlan, DEFAULT_IDENTITY, DEFAULT_TRUST, PasswordChoice};
use super::network::{Networks, NoNetwork, Source};
use super::outcome::SkipReason;
use super::refusal::{Refusal, Stage};
use super::scenario::{CommandPlace, EnvironmentNeed};
use super::server::{ServerConfig, ServerKey, Service};
use super::timeline::ClientKind;
use super::timeline::plan::TimelinePlan;
use super::wire::WireEvent;

/// What is asserted of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionExpectation {
    /// `true`: client and server both speak of TLS. `false`: both speak of plaintext.
    pub tls: bool,
    /// The session's `current_user`; `None`: not asserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `Some(None)`: the server saw no certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_dn: Option<Option<String>>,
    /// The TLS version that client and server agreed on; `None`: not asserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<TlsVersion>,
    /// `Some(None)`: no ALPN was agreed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<Option<String>>,
    /// The identity that the server must have presented.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_certificate: Option<String>,
}

/// What must be seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    /// A session is established and answers its first query.
    Session(SessionExpectation),
    /// A refusal of one of these classes.
    Refused(Vec<Refusal>),
    /// The server does not start with its configuration, and says these texts.
    Objection(Vec<String>),
    /// A command's output lines and exit status.
    Output {
        /// Lines that the output must hold.
        lines: Vec<String>,
        /// The exit status with which the command must end.
        status: i32,
    },
}

/// One row of `expect`, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Expectation {
    /// Session, refusal or output.
    pub expected: Expected,
    /// How far a refused client must have come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Documented words that the client's message must hold; `None`: not asserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Texts that the server's log must hold for this connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub server_log: Vec<String>,
    /// Every event that the relay must see, in order; `None`: not asserted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wire: Option<Vec<WireEvent>>,
    /// Settings of the application's configuration file; `None`: it does not set that one.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, Option<String>>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// The driver makes one connection, and closes it when it has seen enough.
    Connect(ConnectPlan),
    /// `openssl` runs with arguments, and its output is read.
    Openssl(OpensslPlan),
}

/// A run of `openssl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OpensslPlan {
    /// Its arguments (credential places not yet replaced by paths).
    pub args: Vec<String>,
    /// The machine on which the command runs.
    pub at: CommandPlace,
}

/// One step of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedStep {
    /// Whether the step connects or runs `openssl`, with everything that takes.
    pub action: Action,
    /// What must be seen.
    pub expectation: Expectation,
    /// The positive control, for steps that expect a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control: Option<ConnectPlan>,
}

impl Expectation {
    /// Whether the server is not to start.
    #[must_use]
    pub fn is_objection(&self) -> bool {
        matches!(self.expected, Expected::Objection(_))
    }

    fn at(&self, networks: &Networks) -> Result<Self, NoNetwork> {
        let expected = match &self.expected {
            Expected::Output { lines, status } => Expected::Output { lines: networks.fill_all(lines)?, status: *status },
            Expected::Objection(texts) => Expected::Objection(networks.fill_all(texts)?),
            other => other.clone(),
        };
        Ok(Self {
            expected,
            text: networks.fill_optional(self.text.as_ref())?,
            server_log: networks.fill_all(&self.server_log)?,
            ..self.clone()
        })
    }
}

impl PlannedStep {
    fn at(&self, networks: &Networks) -> Result<Self, NoNetwork> {
        Ok(Self {
            action: match &self.action {
                Action::Connect(plan) => Action::Connect(plan.at(networks)?),
                Action::Openssl(plan) => Action::Openssl(OpensslPlan { args: networks.fill_all(&plan.args)?, at: plan.at }),
            },
            expectation: self.expectation.at(networks)?,
            control: self.control.as_ref().map(|control| control.at(networks)).transpose()?,
        })
    }
}

/// A known deviation that applies to a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AppliedDeviation {
    /// The deviation's name in `deviations.yaml`.
    pub id: String,
    /// What it says is seen instead.
    pub observed: Expectation,
    /// Claims that it refutes.
    pub refutes: Vec<String>,
    /// One line for the ledger.
    pub summary: String,
}

/// One cell of a scenario's matrix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// `<scenario>:<axis>=<value>,...`.
    pub id: String,
    /// The id of the scenario that the case is a cell of.
    pub scenario: String,
    /// Axis to value; `deployment` and `postgres` first.
    pub values: IndexMap<String, String>,
    /// The server process it needs.
    pub key: ServerKey,
    /// The only environment that it means something in.
    pub needs: Option<EnvironmentNeed>,
    /// How that is configured.
    pub config: Arc<ServerConfig>,
    /// Its steps; none where it has a timeline.
    pub steps: Vec<PlannedStep>,
    /// Its timeline, in place of steps.
    pub timeline: Option<Arc<TimelinePlan>>,
    /// Claims that it bears on.
    pub claims: Vec<String>,
    /// The deviation that applies.
    pub deviation: Option<Arc<AppliedDeviation>>,
    /// Why it can't run here.
    pub skip: Option<SkipReason>,
}

impl Case {
    /// The case as it is in an environment with these networks: what its texts say of ranges and addresses is filled in.
    /// [`Source::Network`] stays, and can be looked up.
    ///
    /// # Errors
    /// [`NoNetwork`], the first that it names and that is not there.
    pub fn at(&self, networks: &Networks) -> Result<Self, NoNetwork> {
        let pg_hba = self.config.pg_hba.as_ref().map(|lines| networks.fill_all(lines)).transpose()?;
        let deviation = self.deviation.as_ref().map(|deviation| {
            let observed = deviation.observed.at(networks)?;
            Ok(Arc::new(AppliedDeviation { observed, ..deviation.as_ref().clone() }))
        });
        Ok(Self {
            config: Arc::new(ServerConfig { pg_hba, ..self.config.as_ref().clone() }),
            steps: self.steps.iter().map(|step| step.at(networks)).collect::<Result<_, _>>()?,
            timeline: self.timeline.as_ref().map(|timeline| timeline.at(networks).map(Arc::new)).transpose()?,
            deviation: deviation.transpose()?,
            ..self.clone()
        })
    }

    /// Lets clients of PostgreSQL whose scenario says nothing of their `source` come from there.
    pub fn come_from(&mut self, source: Source) {
        if self.key.service != Service::Postgres {
            return;
        }
        let moved = |plan: &mut ConnectPlan| {
            if !plan.unix {
                plan.source.get_or_insert(source);
            }
        };
        for step in &mut self.steps {
            if let Action::Connect(plan) = &mut step.action {
                moved(plan);
            }
            step.control.as_mut().map(moved);
        }
        if let Some(timeline) = &mut self.timeline {
            Arc::make_mut(timeline).clients.iter_mut().for_each(|client| moved(&mut client.connect));
        }
    }

    /// Why it means nothing in the environment of this name; `None` if it does.
    #[must_use]
    pub fn unmet(&self, environment: &str) -> Option<SkipReason> {
        let need = self.needs.filter(|need| need.name() != environment)?.name();
        let reason = format!("it means something in the environment `{need}` only: run it with `--environment {need}`");
        Some(SkipReason::EnvironmentUnable(reason))
    }

    /// Its connections: those of steps, of their controls, and of a timeline's clients.
    fn connections(&self) -> impl Iterator<Item = &ConnectPlan> {
        let steps = self.steps.iter().flat_map(|step| {
            let own = match &step.action {
                Action::Connect(plan) => Some(plan),
                Action::Openssl(_) => None,
            };
            own.into_iter().chain(step.control.as_ref())
        });
        let clients = self.timeline.iter().flat_map(|timeline| &timeline.clients);
        // The client of streaming replication is the replica itself.
        steps.chain(clients.filter(|client| client.kind != ClientKind::Replication).map(|client| &client.connect))
    }

    /// Where its clients come from, as far as it says.
    pub fn sources(&self) -> impl Iterator<Item = Source> {
        self.connections().filter_map(|plan| plan.source)
    }

    /// Whether its server may be one that does not start: by its own rows, or by those of a known deviation.
    #[must_use]
    pub fn may_see_objection(&self) -> bool {
        let deviation = self.deviation.iter().map(|deviation| &deviation.observed);
        self.steps.iter().map(|step| &step.expectation).chain(deviation).any(Expectation::is_objection)
    }

    /// The drivers that it needs.
    pub fn drivers(&self) -> impl Iterator<Item = &str> {
        self.connections().map(|plan| plan.driver.as_str())
    }

    /// Whether one of its connections goes through the gateway, or its timeline's installation has one of its own.
    #[must_use]
    pub fn needs_gateway(&self) -> bool {
        let own = self.timeline.as_ref().is_some_and(|timeline| timeline.with.contains(&Target::Gateway));
        own || self.connections().any(|plan| plan.gateway)
    }
}
