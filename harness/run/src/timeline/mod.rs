//! A case with a timeline: an installation of its own changes step by step, while clients run through it at a steady rate.

mod attempt_log;
mod clients;
mod mounts;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{RwLock, watch};
use tokio::task::JoinSet;

use self::attempt_log::AttemptLog;
use self::mounts::Mounts;
use super::control::Controls;
use super::execute::RunContext;
use super::not_run::{CaseError, NotRun};
use super::observe::ConnectContext;
use check::agree::log_has;
use check::timeline::{ClientSeen, PhaseContext, bound_mismatch, client_record, judge_phase, milliseconds, observed_in_short, settled};
use environment::{Environment, EnvironmentError, Gateway, InstallOptions, Installation, Replication, Server};
use model::case::{AppliedDeviation, Case, Expected};
use model::change::{Change, Target};
use model::driver::Family;
use model::observation::LogLine;
use model::outcome::{Mismatch, Outcome};
use model::report::CaseRecord;
use model::server::Service;
use model::timeline::ClientKind;
use model::timeline::plan::{ClientExpectation, ClientPlan, PhaseExpectation, PhasePlan, TimelinePlan};
use model::timeline::record::{PhaseRecord, TimelineRecord};

/// What everything of a running timeline shares.
struct TimelineContext {
    run_context: Arc<RunContext>,
    plan: Arc<TimelinePlan>,
    service: Service,
    installation: Arc<dyn Installation>,
    server: Arc<dyn Server>,
    gateway: Option<Arc<dyn Gateway>>,
    replication: Option<Arc<dyn Replication>>,
    mounts: Mounts,
    controls: Controls,
    attempt_log: AttemptLog,
    /// The phase whose changes were done last, from 0.
    phase: AtomicUsize,
    /// Held for reading while a client reads its mounted files, for writing while these change. The kubelet swaps all files of a mount at
    /// once, but a client opens one after the other: whoever does so across the swap sees a key that does not fit. That lasts microseconds
    /// and is not what a timeline is about.
    files: RwLock<()>,
}

/// A phase that is over. It is judged when the clients have ended: of its last connections, wire and log speak a little later.
struct EndedPhase {
    from: Duration,
    /// When its changes were done.
    changed: Duration,
    to: Duration,
    /// What the targets of its changes said against them.
    /// Changes that were not taken, with what their targets said.
    objections: Vec<(String, String)>,
    /// The lines of the log that belong to no connection.
    says: Vec<LogLine>,
    /// SHA-256 of the certificate that new sessions had to be shown: a Certificate may be issued again later.
    certificate_sha256: Option<String>,
}

/// How a phase was judged.
struct Judged {
    record: PhaseRecord,
    mismatches: Vec<Mismatch>,
    /// Against the deviation's signature; `None` without one.
    deviation: Option<Vec<Mismatch>>,
}

impl RunContext {
    /// Runs a case that has a timeline.
    pub(crate) async fn execute_timeline(self: &Arc<Self>, case: &Case, environment: &dyn Environment) -> CaseRecord {
        let start = Instant::now();
        let mut record = self.record_without_run(case, CaseError::NotCarriedOut.into());
        let Some(plan) = &case.timeline else { return record };
        let options =
            InstallOptions { key: case.key, config: case.config.as_ref().clone(), with: plan.with.clone(), setup: plan.setup.clone() };
        let installation = match environment.install(&options).await {
            Ok(installation) => installation,
            Err(error) => {
                let error = super::keep::log(self.evidence.as_deref(), &super::keep::directory(&case.id), error);
                record.outcome = CaseError::Environment(error).into();
                return record;
            }
        };
        let limit = self.limits.timeline;
        let outcome = match tokio::time::timeout(limit, self.run_phases(case, plan, &installation, &mut record)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(not_run)) => not_run.into(),
            Err(_) => Outcome::TimedOut(format!("no end within {limit:?}")),
        };
        record.duration_ms = start.elapsed().as_secs_f64() * 1e3;
        record.outcome = self.unless_lost(&super::keep::directory(&case.id), outcome, || installation.lost()).await;
        if let Some(server) = installation.server(case.key.service.into())
            && (record.outcome.kind().is_failure() || record.outcome.kind().is_error())
        {
            record.evidence = self.keep_evidence(case, server.as_ref(), installation.gateway().as_deref(), &record);
        }
        installation.close().await;
        record
    }

    async fn run_phases(
        self: &Arc<Self>,
        case: &Case,
        plan: &Arc<TimelinePlan>,
        installation: &Arc<dyn Installation>,
        record: &mut CaseRecord,
    ) -> Result<Outcome, NotRun> {
        let service = case.key.service;
        let server = installation.server(service.into()).ok_or(CaseError::NoServer(case.key))?;
        let context = Arc::new(TimelineContext {
            run_context: Arc::clone(self),
            plan: Arc::clone(plan),
            service,
            installation: Arc::clone(installation),
            server,
            gateway: installation.gateway(),
            replication: installation.replication(),
            mounts: Mounts { installation: Arc::clone(installation), deployment: Arc::clone(&self.credentials) },
            controls: Controls::default(),
            attempt_log: AttemptLog::new(plan.clients.len()),
            phase: AtomicUsize::new(0),
            files: RwLock::new(()),
        });
        let (stop, stopped) = watch::channel(false);
        let mut clients = JoinSet::new();
        for index in 0..plan.clients.len() {
            clients.spawn(clients::run(Arc::clone(&context), index, stopped.clone()));
        }
        let mut passed = Vec::new();
        let mut not_run = None;
        for (index, phase) in plan.phases.iter().enumerate() {
            match context.phase(index, phase).await {
                Ok(phase) => passed.push(phase),
                Err(error) => {
                    not_run = Some(error);
                    break;
                }
            }
        }
        // The receivers are the clients'; none may be left.
        let _ = stop.send(true);
        while let Some(ended) = clients.join_next().await {
            if let Err(error) = ended
                && error.is_panic()
            {
                not_run.get_or_insert(CaseError::Panic(error).into());
            }
        }
        if let Some(error) = context.attempt_log.not_run() {
            not_run.get_or_insert(error);
        }
        let phases: Vec<Judged> = (plan.phases.iter().zip(&passed).enumerate())
            .map(|(index, (phase, passed))| context.judge(index, phase, passed, case.deviation.as_deref()))
            .collect();
        let clients: Vec<_> = plan
            .clients
            .iter()
            .enumerate()
            .map(|(index, client)| {
                let attempts = context.attempt_log.attempts(index);
                client_record(client, &attempts.iter().map(AsRef::as_ref).collect::<Vec<_>>())
            })
            .collect();
        record.connections = clients.iter().map(|client| client.connections).sum();
        let last = plan.phases.len().saturating_sub(1);
        let bounds: Vec<Mismatch> = plan
            .outages
            .iter()
            .filter_map(|(name, bound)| bound_mismatch(*bound, clients.iter().find(|client| client.name == *name)?, last))
            .collect();
        let outcome = outcome(case, &phases, bounds);
        record.timeline = Some(TimelineRecord { phases: phases.into_iter().map(|judged| judged.record).collect(), clients });
        match not_run {
            Some(not_run) => Err(not_run),
            None => Ok(outcome),
        }
    }
}

/// All phases and bounds together.
fn outcome(case: &Case, phases: &[Judged], bounds: Vec<Mismatch>) -> Outcome {
    let as_deviation = phases.iter().all(|judged| judged.mismatches.is_empty() || judged.deviation.as_ref().is_some_and(Vec::is_empty));
    // What deviates is without service longer, or shorter, than the document makes one expect: that follows from it.
    let deviates = phases.iter().any(|judged| !judged.mismatches.is_empty());
    let mut mismatches: Vec<Mismatch> = phases.iter().flat_map(|judged| judged.mismatches.iter().cloned()).collect();
    mismatches.extend(bounds);
    match (&case.deviation, mismatches.is_empty()) {
        (None, true) => Outcome::Pass,
        (Some(deviation), true) => Outcome::UnexpectedPass { deviation: deviation.id.clone() },
        (Some(deviation), false) if deviates && as_deviation => Outcome::Deviates { deviation: deviation.id.clone() },
        (_, false) => Outcome::Fail(mismatches),
    }
}

impl TimelineContext {
    /// How long a client waits for the answer to a call.
    fn limit(&self, client: usize) -> Duration {
        let run = self.run_context.limits.connect;
        self.plan.clients.get(client).and_then(|client| client.limit).map_or(run, |own| own.min(run))
    }

    fn connect_context(&self, client: usize) -> ConnectContext<'_> {
        ConnectContext {
            service: self.service,
            server: self.server.as_ref(),
            gateway: self.gateway.as_deref(),
            credentials: &self.mounts,
            controls: &self.controls,
            overlapping: true,
            limit: self.limit(client),
        }
    }

    fn family(&self, client: &ClientPlan) -> Family {
        match client.kind {
            // The replica's WAL receiver is libpq.
            ClientKind::Replication => Family::Libpq,
            _ => self.run_context.drivers.get(&client.connect.driver).map_or(Family::Other, |driver| driver.info().family),
        }
    }

    /// Makes the changes, and waits until every client has shown what it sees.
    async fn phase(&self, index: usize, phase: &PhasePlan) -> Result<EndedPhase, NotRun> {
        let from = self.attempt_log.now();
        let expectation = &phase.expectation;
        let watched = self.installation.server(expectation.on).map(|server| (server.log_mark(), server));
        let mut objections = Vec::new();
        for change in &phase.changes {
            let applied = self.change(change).await.map_err(|source| CaseError::Change {
                phase: phase.title.clone(),
                change: change.to_string(),
                source,
            })?;
            if let Some(said) = applied {
                objections.push((change.to_string(), said));
            }
        }
        self.phase.store(index, Ordering::Relaxed);
        let changed = self.attempt_log.now();
        let limit = self.run_context.limits.phase;
        let settle = self.attempt_log.wait_until(|| {
            self.seen(changed, None).iter().all(|seen| {
                expectation.clients.iter().any(|(name, expected)| *name == seen.client.name && settled(expected, &seen.as_seen()))
            })
        });
        // What has not settled by then is told by judging.
        let _ = tokio::time::timeout(limit, settle).await;
        let to = self.attempt_log.now();
        if let Some(not_run) = self.attempt_log.not_run() {
            return Err(not_run);
        }
        let says = match &watched {
            Some((mark, server)) => {
                let enough = |lines: &[LogLine]| expectation.server_says.iter().all(|text| log_has(lines, text));
                server.says_since(*mark, &enough, self.run_context.limits.log).await
            }
            None if expectation.server_says.is_empty() => Vec::new(),
            None => return Err(CaseError::NoLog { phase: phase.title.clone(), target: expectation.on }.into()),
        };
        let certificate = expectation.server_certificate.as_deref();
        let certificate_sha256 = certificate.and_then(|certificate| self.installation.certificate_sha256(certificate));
        Ok(EndedPhase { from, changed, to, objections, says, certificate_sha256 })
    }

    fn judge(&self, index: usize, phase: &PhasePlan, passed: &EndedPhase, deviation: Option<&AppliedDeviation>) -> Judged {
        let EndedPhase { from, changed, to, .. } = *passed;
        let expectation = &phase.expectation;
        let owned = self.seen(changed, Some(to));
        let seen: Vec<ClientSeen<'_>> = owned.iter().map(attempt_log::ClientAttempts::as_seen).collect();
        // A phase names one certificate at most.
        let sha256 = |_: &str| passed.certificate_sha256.clone();
        // Judged without the changes' names: those are no words of a target.
        let in_lines = |line: &dyn Fn(&(String, String)) -> String| {
            (!passed.objections.is_empty()).then(|| passed.objections.iter().map(line).collect::<Vec<_>>().join("\n"))
        };
        let objection = in_lines(&|(_, said)| said.clone());
        let context = PhaseContext {
            phase: index,
            service: self.service,
            certificate_sha256: &sha256,
            says: &passed.says,
            objection: objection.as_deref(),
        };
        let mismatches = judge_phase(expectation, &seen, &context);
        let deviation = deviation.map(|deviation| judge_phase(&as_deviation(expectation, deviation, &mismatches), &seen, &context));
        let record = PhaseRecord {
            title: phase.title.clone(),
            from_ms: milliseconds(from),
            changed_ms: Some(milliseconds(changed)),
            to_ms: Some(milliseconds(to)),
            changes: phase.changes.iter().map(ToString::to_string).collect(),
            expected: serde_json::to_value(expectation).unwrap_or_default(),
            objection: in_lines(&|(change, said)| format!("{change}: {said}")),
            observed: seen.iter().map(|seen| (seen.name.to_owned(), observed_in_short(seen))).collect(),
        };
        Judged { record, mismatches, deviation }
    }

    /// Makes one change; the objection of its target.
    async fn change(&self, change: &Change<String>) -> Result<Option<String>, EnvironmentError> {
        let _files = match change {
            Change::Sync(Target::Client | Target::Site) => Some(self.files.write().await),
            _ => None,
        };
        Ok(self.installation.apply(change).await?.objection)
    }

    /// The clients as they saw it since `changed`, and until `to`.
    fn seen(&self, changed: Duration, to: Option<Duration>) -> Vec<attempt_log::ClientAttempts<'_>> {
        let clients = self.plan.clients.iter().enumerate();
        clients
            .map(|(index, client)| attempt_log::ClientAttempts {
                client,
                family: self.family(client),
                attempts: self.attempt_log.between(index, changed, to),
                lost: self.attempt_log.lost(index, to),
                waits: self.attempt_log.waits(index, to),
            })
            .collect()
    }
}

/// The expectation with the deviation's refusal for every client that did not see what it was to see.
fn as_deviation(expectation: &PhaseExpectation, deviation: &AppliedDeviation, mismatches: &[Mismatch]) -> PhaseExpectation {
    let mut expectation = expectation.clone();
    if let Expected::Refused(classes) = &deviation.observed.expected {
        for (name, expected) in &mut expectation.clients {
            let prefix = format!("{name}: ");
            if mismatches.iter().any(|mismatch| mismatch.what.starts_with(&prefix)) {
                *expected = ClientExpectation::Refused(classes.clone());
                expectation.text.clone_from(&deviation.observed.text);
                expectation.server_log.clone_from(&deviation.observed.server_log);
            }
        }
    }
    expectation
}
