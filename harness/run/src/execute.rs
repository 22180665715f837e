//! One case: relay, driver, log, judgement.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connect_context::ConnectContext;
use super::context::{RunContext, expected_value};
use super::control::{ControlResult, Controls};
use super::credentials::CredentialError;
use super::not_run::{CaseError, ControlError, Disagreement, NotRun};
use super::observe::{request, takes_configuration};
use super::step::StepResult;
use check::agree::disagreements;
use check::judge::{Context, judge, judge_objection};
use check::short::by_connection;
use environment::{EnvironmentError, EvidenceFile, Gateway, Server};
use model::case::{Action, Case, ConnectPlan, Expectation, PlannedStep};
use model::connect::{ConnectRequest, SslMode, SslNegotiation};
use model::observation::ClientOutcome;
use model::outcome::{Mismatch, Outcome};
use model::report::{CaseRecord, ClientRecord, StepRecord};
use model::server::Service;
use model::text::name_of;
use os::poll;
use serverlog::quote;

/// How long after a case that did not pass it may take until a server's end is known: clients see that of its connections first. That of a
/// container is told by the end of the agent in it, some milliseconds later.
const LOSS: Duration = Duration::from_millis(200);

/// Lines of the server's log that are told of a control that was refused: the last ones say why.
const CONTROL_LINES: usize = 3;

/// How often it is asked for meanwhile.
const LOSS_INTERVAL: Duration = Duration::from_millis(20);

impl RunContext {
    /// Runs a case on a server that has its configuration.
    pub(crate) async fn execute(&self, case: &Case, server: &dyn Server, gateway: Option<&dyn Gateway>, controls: &Controls) -> CaseRecord {
        let connect_context = ConnectContext {
            service: case.key.service,
            server,
            gateway,
            credentials: self.credentials.as_ref(),
            controls,
            overlapping: false,
            limit: self.limits.connect,
        };
        let start = Instant::now();
        // Whatever might keep its outcome from being written below must not look like a pass.
        let mut record = self.record_without_run(case, CaseError::NotCarriedOut.into());
        let outcome = match tokio::time::timeout(self.limits.case, self.steps(case, &connect_context, &mut record)).await {
            Err(_) => Outcome::TimedOut(format!(
                "no end within {:?}; {} of {} steps were done",
                self.limits.case,
                record.steps_done(),
                case.steps.len()
            )),
            Ok(Err(not_run)) => not_run.into(),
            Ok(Ok(outcome)) => outcome,
        };
        let gateway = gateway.filter(|_| case.needs_gateway());
        let lost = || async {
            match (server.lost().await, gateway) {
                (None, Some(gateway)) => gateway.lost().await,
                (lost, _) => lost,
            }
        };
        record.duration_ms = start.elapsed().as_secs_f64() * 1e3;
        record.outcome = self.unless_lost(&case.key.to_string(), outcome, lost).await;
        if record.outcome.kind().is_failure() || record.outcome.kind().is_error() {
            self.keep_evidence(&[("", server)], gateway, &mut record).await;
        }
        record
    }

    /// What a case's outcome is worth: that it did not pass says nothing about a server that was lost meanwhile, and that it could not be
    /// carried out has its reason there. Its log is kept by this name.
    pub(super) async fn unless_lost<F, Fut>(&self, name: &str, outcome: Outcome, lost: F) -> Outcome
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Option<EnvironmentError>>,
    {
        match &outcome {
            Outcome::Fail(_) | Outcome::TimedOut(_) | Outcome::Errored { .. } => match poll::find(LOSS, LOSS_INTERVAL, lost).await {
                Some(lost) => super::keep::log(self.evidence.as_ref(), name, lost).into(),
                None => outcome,
            },
            _ => outcome,
        }
    }

    async fn steps(&self, case: &Case, connect_context: &ConnectContext<'_>, record: &mut CaseRecord) -> Result<Outcome, NotRun> {
        let mut judged = Judged::new(case);
        for (index, step) in case.steps.iter().enumerate() {
            let result = match &step.action {
                Action::Connect(plan) => self.connect_step(case, index, step, plan, connect_context, &mut record.connections).await?,
                Action::Openssl(plan) => {
                    let deviation = case.deviation.as_ref().map(|deviation| &deviation.observed);
                    self.openssl_step(index, step, plan, connect_context.server, deviation).await?
                }
            };
            record.steps[index] = result.record;
            if let Some((client, phases)) = result.session {
                (record.client, record.phases) = (Some(client), Some(phases));
            }
            record.control = result.control.or(record.control.take());
            judged.add(result.mismatches, result.deviation);
        }
        Ok(judged.outcome())
    }

    /// The record of a case whose server did not start with its configuration; `said` is what it wrote.
    pub(crate) fn judge_objection(&self, case: &Case, said: &str) -> CaseRecord {
        let mut record = self.record_without_run(case, CaseError::NotCarriedOut.into());
        let mut judged = Judged::new(case);
        for (index, step) in case.steps.iter().enumerate() {
            record.steps[index].output = Some(said.to_owned());
            let deviation = case.deviation.as_ref().map(|deviation| judge_objection(&deviation.observed, said, index));
            judged.add(judge_objection(&step.expectation, said, index), deviation);
        }
        record.control = Some("started with the deployment's own configuration".to_owned());
        record.outcome = judged.outcome();
        record
    }

    async fn connect_step(
        &self,
        case: &Case,
        index: usize,
        step: &PlannedStep,
        plan: &ConnectPlan,
        connect_context: &ConnectContext<'_>,
        connections: &mut u32,
    ) -> Result<StepResult, NotRun> {
        let service = connect_context.service;
        let driver = self.driver(plan)?;
        let deviation = case.deviation.as_ref().map(|deviation| &deviation.observed);
        let observation = self.observe(plan, connect_context, Some(&step.expectation), deviation).await?;
        *connections += 1;
        let mut control = None;
        // Only now, since a session needs none: one that is refused where it should connect is told by the judgement.
        if let (ClientOutcome::Refused(_), Some(control_plan)) = (&observation.client.outcome, &step.control) {
            let (result, made) = connect_context.controls.result(control_plan, || self.control(control_plan, connect_context)).await;
            *connections += u32::from(made);
            result.map_err(CaseError::Control)?;
            control = Some(describe_control(plan, control_plan));
        }
        let sha256 = |identity: &str| connect_context.credentials.certificate_sha256(identity);
        let context = Context { step: index, family: driver.info().family, certificate_sha256: &sha256 };
        let agreement = disagreements(index, service, &observation);
        let judged = |expectation: &Expectation| {
            let mut mismatches = judge(expectation, &observation, &context);
            // Of a known deviation, too, all witnesses must tell the same.
            mismatches.extend(agreement.iter().cloned());
            mismatches
        };
        let mismatches = judged(&step.expectation);
        let deviation = deviation.map(judged);
        let session = match &observation.client.outcome {
            ClientOutcome::Session(session) => Some((client_record(plan, service, session.tls), observation.client.phases)),
            ClientOutcome::Refused(_) => None,
        };
        let record = StepRecord { expected: expected_value(&step.expectation), observed: Some(observation), command: None, output: None };
        Ok(StepResult { record, mismatches, deviation, session, control })
    }

    async fn control(&self, plan: &ConnectPlan, connect_context: &ConnectContext<'_>) -> ControlResult {
        let observation = self.observe(plan, connect_context, None, None).await.map_err(|error| Arc::new(error.into()))?;
        let failed = match &observation.client.outcome {
            ClientOutcome::Refused(refused) => {
                let last = by_connection(&observation.server_log).pop().unwrap_or_default();
                let last = last[last.len().saturating_sub(CONTROL_LINES)..].iter();
                let logged = last.map(|line| format!("\n  the server's log: {}", quote(line))).collect();
                Some(ControlError::Refused { refusal: refused.refusal, text: refused.text.trim().to_owned(), logged })
            }
            ClientOutcome::Session(_) => {
                let mut disagreements = disagreements(0, connect_context.service, &observation).into_iter();
                disagreements.next().map(|mismatch| ControlError::Disagrees(Disagreement(mismatch)))
            }
        };
        failed.map_or(Ok(()), |error| Err(Arc::new(error)))
    }

    /// What a plan asks of a driver, straight to the server: names become files and passwords.
    ///
    /// # Errors
    /// [`CredentialError`] where a file can't be issued or written.
    pub fn request(&self, plan: &ConnectPlan, service: Service, server: &dyn Server) -> Result<ConnectRequest, CredentialError> {
        request(plan, service, server, self.credentials.as_ref())
    }

    /// Keeps what a person needs to look into a failure, and says in the record where, or why not. Servers have a name that their files' names
    /// begin with, where there are several.
    pub(super) async fn keep_evidence(&self, servers: &[(&str, &dyn Server)], gateway: Option<&dyn Gateway>, record: &mut CaseRecord) {
        let Some(evidence) = &self.evidence else { return };
        let mut files = Vec::new();
        // What can be written as a report can be written here.
        files.extend(serde_json::to_vec_pretty(record).map(|contents| EvidenceFile { name: "case.json".to_owned(), contents }));
        let mut logs = Vec::new();
        for (prefix, server) in servers {
            let certificates = ["server.crt", "client-ca.crt", "server-ca.crt"].into_iter().filter_map(|name| {
                // Not every server has every file.
                let contents = std::fs::read(server.file(name)?).ok()?;
                Some(EvidenceFile { name: name.to_owned(), contents })
            });
            let of_server = certificates.chain(server.evidence().await);
            files.extend(of_server.map(|file| EvidenceFile { name: format!("{prefix}{}", file.name), ..file }));
            logs.push((format!("{prefix}server.log"), server.log_path()));
        }
        if let Some(gateway) = gateway {
            files.extend(gateway.configuration());
            logs.push(("gateway.log".to_owned(), gateway.log_path()));
        }
        let kept = evidence.keep(&record.id, files, &logs);
        (record.evidence, record.evidence_error) = (kept.directory, kept.error);
    }
}

/// What came of the steps of a case.
struct Judged<'a> {
    case: &'a Case,
    mismatches: Vec<Mismatch>,
    /// Whether all that differs so far differs as the case's known deviation describes.
    as_deviation: bool,
}

impl<'a> Judged<'a> {
    fn new(case: &'a Case) -> Self {
        Self { case, mismatches: Vec::new(), as_deviation: case.deviation.is_some() }
    }

    /// A step: how it differs from its expectation, and from the deviation's signature. A step that passes may stand beside one that
    /// deviates; one that fails must show the signature.
    fn add(&mut self, mismatches: Vec<Mismatch>, deviation: Option<Vec<Mismatch>>) {
        self.as_deviation &= mismatches.is_empty() || deviation.is_some_and(|mismatches| mismatches.is_empty());
        self.mismatches.extend(mismatches);
    }

    fn outcome(self) -> Outcome {
        match (&self.case.deviation, self.mismatches.is_empty()) {
            (None, true) => Outcome::Pass,
            (Some(deviation), true) => Outcome::UnexpectedPass { deviation: deviation.id.clone() },
            (Some(deviation), false) if self.as_deviation => Outcome::Deviates { deviation: deviation.id.clone() },
            (_, false) => Outcome::Fail(self.mismatches),
        }
    }
}

/// How the latencies of a session are grouped.
fn client_record(plan: &ConnectPlan, service: Service, tls: bool) -> ClientRecord {
    let configured = takes_configuration(plan);
    let mode = match service {
        Service::Postgres if configured => match plan.env.get("NAUTOBOT_DB_SSLMODE").map(String::as_str) {
            None | Some("") => "unset".to_owned(),
            Some(mode) => mode.to_owned(),
        },
        Service::Redis if configured => "configured".to_owned(),
        Service::Postgres => plan.sslmode.map_or("unset", SslMode::name).to_owned(),
        Service::Redis => name_of(&plan.tls.unwrap_or_default()),
    };
    let negotiation = match (tls, service, plan.sslnegotiation) {
        (false, ..) => "none",
        (true, Service::Redis, _) | (true, _, Some(SslNegotiation::Direct)) => "direct",
        (true, ..) => "postgres",
    };
    ClientRecord { driver: plan.driver.clone(), mode, negotiation: negotiation.to_owned() }
}

/// What the control did differently, for the record.
fn describe_control(plan: &ConnectPlan, control: &ConnectPlan) -> String {
    let (Ok(serde_json::Value::Object(plan)), Ok(serde_json::Value::Object(control))) =
        (serde_json::to_value(plan), serde_json::to_value(control))
    else {
        return String::new();
    };
    let differences: Vec<String> =
        control.iter().filter(|(field, value)| plan.get(*field) != Some(*value)).map(|(field, value)| format!("{field}={value}")).collect();
    format!("connected with {}", differences.join(", "))
}
