//! A case with a timeline: an installation of its own changes step by step, while clients run through it at a steady rate.

mod attempt_log;
mod clients;
mod context;
mod mounts;
mod phase;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::{RwLock, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout_at};

use self::attempt_log::AttemptLog;
use self::context::TimelineContext;
use self::mounts::Mounts;
use self::phase::{Judged, Progress};
use super::context::RunContext;
use super::control::Controls;
use super::not_run::{CaseError, NotRun};
use check::timeline::{bound_mismatch, client_record};
use environment::{Environment, InstallOptions, Installation};
use model::case::Case;
use model::change::Target;
use model::outcome::{Mismatch, Outcome};
use model::report::CaseRecord;
use model::timeline::plan::TimelinePlan;
use model::timeline::record::TimelineRecord;

impl RunContext {
    /// Runs a case that has a timeline.
    pub(crate) async fn execute_timeline(self: &Arc<Self>, case: &Case, environment: &dyn Environment) -> CaseRecord {
        let start = Instant::now();
        let mut record = self.record_without_run(case, CaseError::NotCarriedOut.into());
        let Some(plan) = &case.timeline else { return record };
        let options = InstallOptions {
            key: case.key,
            config: case.config.as_ref().clone(),
            with: plan.with.clone(),
            setup: plan.setup.clone(),
            setup_limit: self.limits.timeline,
        };
        let installation = match environment.install(&options).await {
            Ok(installation) => installation,
            Err(error) => {
                record.outcome = super::keep::log(self.evidence.as_ref(), &case.id, error).into();
                return record;
            }
        };
        let outcome = self.run_phases(case, plan, &installation, &mut record).await.unwrap_or_else(Outcome::from);
        record.duration_ms = start.elapsed().as_secs_f64() * 1e3;
        record.outcome = self.unless_lost(&case.id, outcome, || installation.lost()).await;
        if let Some(server) = installation.server(case.key.service.into())
            && (record.outcome.kind().is_failure() || record.outcome.kind().is_error())
        {
            let replica = installation.server(Target::Replica);
            let mut servers = vec![("", server.as_ref())];
            servers.extend(replica.as_deref().map(|replica| ("replica-", replica)));
            self.keep_evidence(&servers, installation.gateway().as_deref(), &mut record).await;
        }
        installation.close().await;
        record
    }

    /// All phases, within [`Limits::timeline`](super::context::Limits::timeline). What was seen until then goes into the record, however
    /// they end.
    async fn run_phases(
        self: &Arc<Self>,
        case: &Case,
        plan: &Arc<TimelinePlan>,
        installation: &Arc<dyn Installation>,
        record: &mut CaseRecord,
    ) -> Result<Outcome, NotRun> {
        let limit = self.limits.timeline;
        let deadline = Instant::now() + limit;
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
        let started: Vec<AbortHandle> =
            (0..plan.clients.len()).map(|index| clients.spawn(clients::run(Arc::clone(&context), index, stopped.clone()))).collect();
        let mut passed = Vec::new();
        let mut progress = Progress::default();
        let (mut not_run, mut timed_out) = (None, None);
        match timeout_at(deadline, context.phases(&mut passed, &mut progress)).await {
            Ok(ended) => not_run = ended.err(),
            Err(_) => timed_out = Some(context.describe(&progress)),
        }
        // The receivers are the clients'; none may be left.
        let _ = stop.send(true);
        let joined = timeout_at(deadline, async {
            while let Some(ended) = clients.join_next().await {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    not_run.get_or_insert(CaseError::Panic(error).into());
                }
            }
        });
        if joined.await.is_err() {
            let running = plan.clients.iter().zip(&started).filter(|(_, client)| !client.is_finished());
            let names: Vec<&str> = running.map(|(client, _)| client.name.as_str()).collect();
            timed_out.get_or_insert_with(|| format!("all phases were over, and these clients had not ended: {}", names.join(", ")));
            // One may wait for a server that never answers: it is not to hold up the end of the installation below it.
            clients.shutdown().await;
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
        match (not_run, timed_out) {
            (Some(not_run), _) => Err(not_run),
            (None, Some(doing)) => Ok(Outcome::TimedOut(format!("no end within {limit:?}: {doing}"))),
            (None, None) => Ok(outcome),
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
