//! What all cases of a run share, and their limits.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::credentials::CredentialSource;
use super::keep::Evidence;
use super::not_run::NotRun;
use driver::exec::ProgramLimits;
use driver::{Driver, catalogue};
use model::case::{Case, ConnectPlan, Expectation};
use model::network::Networks;
use model::outcome::{Outcome, SkipReason};
use model::report::{CaseRecord, StepRecord};
use os::shell::in_shell;

/// Every time limit of a case, in one place.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One call of a client: a connection with its question, or a query of a held session.
    pub connect: Duration,
    /// From the client's end until the relay's connections have ended on both sides.
    pub wire: Duration,
    /// Until the server's log shows what it must: only a failing case waits that long.
    pub log: Duration,
    /// The same where a log need show nothing: then it is only for the report.
    pub unwanted: Duration,
    /// A whole case, control included.
    pub case: Duration,
    /// From the end of a phase's changes until every client of a timeline has shown what it sees.
    pub phase: Duration,
    /// A whole timeline, the start of its installation left out.
    pub timeline: Duration,
    /// Client programs, apart from what they are asked for.
    pub program: ProgramLimits,
}

impl Limits {
    /// The defaults, but for a case, with a timeline or without, which ends within `limit`, and for a client program that says nothing.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        Self { case: limit, timeline: limit, program: ProgramLimits::within(limit), ..Self::default() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // A handshake takes milliseconds: a machine that is busy a thousandfold still passes.
            connect: Duration::from_secs(10),
            wire: Duration::from_secs(3),
            log: Duration::from_secs(3),
            unwanted: Duration::from_millis(50),
            case: Duration::from_secs(30),
            // A client shows what it sees within a second.
            phase: Duration::from_secs(8),
            timeline: Duration::from_secs(60),
            program: ProgramLimits::default(),
        }
    }
}

/// What all cases of a run share.
pub struct RunContext {
    /// Started drivers by the name that scenarios give them; one that did not start is there, and every call says why.
    pub drivers: HashMap<String, Arc<dyn Driver>>,
    /// Issues the files that clients use, by the names of scenarios.
    pub credentials: Arc<dyn CredentialSource>,
    /// Those of the environment.
    pub networks: Networks,
    /// The path of the `openssl` command; without it, steps that run it here are skipped.
    pub openssl: Option<PathBuf>,
    /// The time limits of each case.
    pub limits: Limits,
    /// What stays of failed cases; `None` keeps nothing.
    pub evidence: Option<Evidence>,
    /// What stands after `mtls-conformance run ID` to repeat a case in the same environment.
    pub repro_options: String,
}

impl RunContext {
    /// The driver of a connection.
    pub(super) fn driver(&self, plan: &ConnectPlan) -> Result<&dyn Driver, NotRun> {
        let driver = self.drivers.get(&plan.driver);
        let missing = || NotRun::Skip(SkipReason::DriverMissing(format!("driver {} is not there", plan.driver)));
        driver.map(AsRef::as_ref).ok_or_else(missing)
    }

    /// Why a case can't run that needs a driver in a container, where there is none.
    pub(super) fn elsewhere(&self, case: &Case) -> Option<SkipReason> {
        let missing = |name: &&str| catalogue::in_container(name).is_some() && !self.drivers.contains_key(*name);
        case.drivers().find(missing).map(|name| SkipReason::DriverMissing(catalogue::container_missing(name)))
    }

    /// The record of a case that doesn't run.
    #[must_use]
    pub fn record_without_run(&self, case: &Case, outcome: Outcome) -> CaseRecord {
        CaseRecord {
            id: case.id.clone(),
            scenario: case.scenario.clone(),
            values: case.values.clone(),
            deployment: case.key.deployment.to_string(),
            outcome,
            claims: case.claims.clone(),
            steps: case
                .steps
                .iter()
                .map(|step| StepRecord { expected: expected_value(&step.expectation), observed: None, command: None, output: None })
                .collect(),
            timeline: None,
            client: None,
            phases: None,
            connections: 0,
            control: None,
            duration_ms: 0.0,
            evidence: None,
            evidence_error: None,
            repro: self.repro(case),
        }
    }

    fn repro(&self, case: &Case) -> String {
        let options = if self.repro_options.is_empty() { String::new() } else { format!(" {}", self.repro_options) };
        format!("mtls-conformance run {}{options}", in_shell(&case.id))
    }
}

/// An expectation as a report has it.
pub(super) fn expected_value(expectation: &Expectation) -> serde_json::Value {
    serde_json::to_value(expectation).unwrap_or_default()
}
