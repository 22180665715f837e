//! Which case runs when: one server per key, its configurations one after the other, the cases of a configuration concurrently.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::context::RunContext;
use super::control::Controls;
use super::event::Event;
use super::keep;
use super::not_run::CaseError;
use environment::{Environment, Gateway, Server};
use model::case::Case;
use model::outcome::{Outcome, SkipReason};
use model::server::{ServerConfig, ServerKey};

/// How a run goes about its cases.
#[derive(Debug, Clone, Copy)]
pub struct ScheduleOptions {
    /// Cases at a time, over all servers.
    pub jobs: usize,
    /// Stop launching cases at the first failure or error.
    pub fail_fast: bool,
    /// Leave servers running that no case needs any more.
    pub keep_servers: bool,
}

/// What all parts of a run share.
#[derive(Clone)]
struct Shared {
    run_context: Arc<RunContext>,
    events: mpsc::UnboundedSender<Event>,
    slots: Arc<Semaphore>,
    starts: Arc<Semaphore>,
    failed: Arc<AtomicBool>,
    interrupted: watch::Receiver<bool>,
    fail_fast: bool,
    keep_servers: bool,
}

/// Runs every case and emits its events, [`Event::CaseFinished`] once for each case. `interrupted` turning true ends the run early: cases
/// that have begun end, the others are skipped.
pub async fn run(
    cases: Vec<Arc<Case>>,
    environment: Arc<dyn Environment>,
    run_context: Arc<RunContext>,
    schedule_options: ScheduleOptions,
    events: mpsc::UnboundedSender<Event>,
    interrupted: watch::Receiver<bool>,
) {
    let shared = Shared {
        run_context,
        events,
        slots: Arc::new(Semaphore::new(schedule_options.jobs.max(1))),
        // Server starts are processor-bound: more at a time than processors only delays the first.
        starts: Arc::new(Semaphore::new(parallelism())),
        failed: Arc::new(AtomicBool::new(false)),
        interrupted,
        fail_fast: schedule_options.fail_fast,
        keep_servers: schedule_options.keep_servers,
    };
    let mut timelines = Vec::new();
    let mut servers: BTreeMap<ServerKey, BTreeMap<Arc<ServerConfig>, Vec<Arc<Case>>>> = BTreeMap::new();
    for case in cases {
        // From here on cases name the environment's ranges and addresses: those with the same configuration run together.
        let case = match case.at(&shared.run_context.networks) {
            Ok(case) => Arc::new(case),
            Err(missing) => {
                shared.finish(shared.run_context.record_without_run(&case, Outcome::Skipped(missing.into())));
                continue;
            }
        };
        if let Some(reason) = case.skip.clone().or_else(|| case.unmet(environment.name())).or_else(|| shared.run_context.elsewhere(&case)) {
            shared.finish(shared.run_context.record_without_run(&case, Outcome::Skipped(reason)));
        } else if case.timeline.is_some() {
            timelines.push(case);
        } else {
            servers.entry(case.key).or_default().entry(Arc::clone(&case.config)).or_default().push(case);
        }
    }
    let mut tasks = JoinSet::new();
    for (key, groups) in servers {
        tasks.spawn(shared.clone().serve(key, groups, Arc::clone(&environment)));
    }
    while let Some(joined) = tasks.join_next().await {
        if let Err(error) = joined {
            let _ = shared.events.send(Event::Problem(format!("the harness itself failed: {error}")));
        }
    }
    // Afterwards, and few at a time: how long an outage lasts is not to depend on how busy the machine is with other cases.
    shared.timelines(timelines, timelines_at_a_time(schedule_options.jobs), environment).await;
}

/// Timelines at a time, for each processor: their clients' rate is set, and one that shares a processor with others does not keep to it.
const TIMELINES_A_PROCESSOR: usize = 1;

/// Timelines at a time on however many processors: what their servers write is in memory.
const MOST_TIMELINES: usize = 6;

/// How many timelines run at a time, where so many cases may.
#[must_use]
pub fn timelines_at_a_time(jobs: usize) -> usize {
    jobs.clamp(1, (TIMELINES_A_PROCESSOR * parallelism()).min(MOST_TIMELINES))
}

/// Whether clients of both are of one driver.
fn share_a_driver(one: &Case, other: &Case) -> bool {
    one.drivers().any(|driver| other.drivers().any(|other| other == driver))
}

fn parallelism() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

impl Shared {
    fn finish(&self, record: model::report::CaseRecord) {
        let kind = record.outcome.kind();
        if kind.is_failure() || kind.is_error() {
            self.failed.store(true, Ordering::Relaxed);
        }
        // The receiver goes away only when the whole run is being dropped.
        let _ = self.events.send(Event::CaseFinished(Box::new(record)));
    }

    /// Why nothing new may begin.
    fn stopped(&self) -> Option<SkipReason> {
        if *self.interrupted.borrow() {
            Some(SkipReason::Interrupted)
        } else if self.fail_fast && self.failed.load(Ordering::Relaxed) {
            Some(SkipReason::FailFast)
        } else {
            None
        }
    }

    fn end_all(&self, cases: &[Arc<Case>], outcome: &Outcome) {
        for case in cases {
            self.finish(self.run_context.record_without_run(case, outcome.clone()));
        }
    }

    async fn serve(self, key: ServerKey, groups: BTreeMap<Arc<ServerConfig>, Vec<Arc<Case>>>, environment: Arc<dyn Environment>) {
        let all: Vec<Arc<Case>> = groups.values().flatten().cloned().collect();
        if let Some(reason) = environment.unable(key) {
            self.end_all(&all, &Outcome::Skipped(reason));
            return;
        }
        let started = {
            // The semaphore is never closed.
            let _permit = self.starts.acquire().await;
            if let Some(reason) = self.stopped() {
                self.end_all(&all, &Outcome::Skipped(reason));
                return;
            }
            let start = Instant::now();
            environment.server(key).await.map(|server| (server, start.elapsed()))
        };
        let server = match started {
            Ok((server, took)) => {
                let _ = self.events.send(Event::ServerReady { name: key.to_string(), took });
                server
            }
            Err(error) => {
                let error = keep::log(self.run_context.evidence.as_ref(), &key.to_string(), error);
                self.end_all(&all, &error.into());
                return;
            }
        };
        let gateway = if all.iter().any(|case| case.needs_gateway()) { Some(self.gateway(key, environment.as_ref()).await) } else { None };
        for (config, mut cases) in groups {
            if let Some(Err(outcome)) = &gateway {
                let lost: Vec<_> = cases.extract_if(.., |case| case.needs_gateway()).collect();
                self.end_all(&lost, outcome);
            }
            let cases = self.await_objection(environment.as_ref(), key, &config, cases).await;
            self.serve_configuration(&server, gateway.as_ref().and_then(|gateway| gateway.as_ref().ok()), &config, cases).await;
        }
        drop(server);
        if !self.keep_servers {
            // Timelines come afterwards, with servers of their own.
            environment.release(key).await;
        }
    }

    async fn timelines(self, mut waiting: Vec<Arc<Case>>, at_a_time: usize, environment: Arc<dyn Environment>) {
        if waiting.is_empty() {
            return;
        }
        let _ = self.events.send(Event::TimelinesStarted { planned: waiting.len() });
        mix(&mut waiting);
        let places = Arc::new(Semaphore::new(at_a_time));
        let mut running = Running::default();
        while !waiting.is_empty() {
            // The semaphore is never closed.
            let place = Arc::clone(&places).acquire_owned().await;
            running.take_ended(&self);
            // A driver takes only a few requests at a time, and each timeline keeps one busy: another driver's comes first.
            let next = waiting.iter().position(|case| !running.cases.values().any(|other| share_a_driver(case, other)));
            let case = waiting.remove(next.unwrap_or(0));
            let without_gateway = || if case.needs_gateway() { environment.unable_gateway(case.key) } else { None };
            let changes = || case.timeline.iter().flat_map(|timeline| timeline.changes());
            let unable = || environment.unable(case.key).or_else(|| changes().find_map(|change| environment.unable_change(change)));
            if let Some(reason) = self.stopped().or_else(unable).or_else(without_gateway) {
                self.finish(self.run_context.record_without_run(&case, Outcome::Skipped(reason)));
                continue;
            }
            let _ = self.events.send(Event::CaseStarted { id: case.id.clone() });
            let (shared, environment, running_case) = (self.clone(), Arc::clone(&environment), Arc::clone(&case));
            running.start(case, async move {
                let record = shared.run_context.execute_timeline(&running_case, environment.as_ref()).await;
                shared.finish(record);
                drop(place);
            });
        }
        running.end(&self).await;
    }

    /// The gateway in front of a server, or what becomes of the cases that need it.
    async fn gateway(&self, key: ServerKey, environment: &dyn Environment) -> Result<Arc<dyn Gateway>, Outcome> {
        if let Some(reason) = environment.unable_gateway(key) {
            return Err(Outcome::Skipped(reason));
        }
        environment.gateway(key).await.map_err(|error| keep::log(self.run_context.evidence.as_ref(), &key.to_string(), error).into())
    }

    /// Where a case of this configuration may be one whose server does not start: starts one, beside the one that cases share. Those that are
    /// about such a server end with that; the others are left, and all of them where it starts.
    async fn await_objection(
        &self,
        environment: &dyn Environment,
        key: ServerKey,
        config: &ServerConfig,
        mut cases: Vec<Arc<Case>>,
    ) -> Vec<Arc<Case>> {
        if !cases.iter().any(|case| case.may_see_objection()) || self.stopped().is_some() {
            return cases;
        }
        let tried = {
            // The semaphore is never closed.
            let _permit = self.starts.acquire().await;
            environment.objection(key, config).await
        };
        match tried {
            Ok(None) => {}
            Ok(Some(said)) => {
                for case in cases.extract_if(.., |case| case.may_see_objection()) {
                    self.finish(self.run_context.judge_objection(&case, &said));
                }
            }
            Err(error) => {
                let error = keep::log(self.run_context.evidence.as_ref(), &key.to_string(), error);
                let outcome = error.into();
                let lost: Vec<_> = cases.extract_if(.., |case| case.may_see_objection()).collect();
                self.end_all(&lost, &outcome);
            }
        }
        cases
    }

    async fn serve_configuration(
        &self,
        server: &Arc<dyn Server>,
        gateway: Option<&Arc<dyn Gateway>>,
        config: &ServerConfig,
        mut cases: Vec<Arc<Case>>,
    ) {
        if let Some(reason) = self.stopped() {
            self.end_all(&cases, &Outcome::Skipped(reason));
            return;
        }
        let Some(key) = cases.first().map(|case| case.key.to_string()) else { return };
        let errored = |error| Outcome::from(keep::log(self.run_context.evidence.as_ref(), &key, error));
        // A lost one would only be waited for.
        let applied = match server.lost().await {
            Some(lost) => Err(lost),
            None => server.apply(config).await,
        };
        if let Err(error) = applied {
            self.end_all(&cases, &errored(error));
            return;
        }
        mix(&mut cases);
        let controls = Arc::new(Controls::default());
        let mut running = Running::default();
        let mut lost = None;
        for case in cases {
            let permit = Arc::clone(&self.slots).acquire_owned().await;
            running.take_ended(self);
            if let Some(reason) = self.stopped() {
                self.finish(self.run_context.record_without_run(&case, Outcome::Skipped(reason)));
                continue;
            }
            if lost.is_none() {
                lost = server.lost().await.map(errored);
            }
            if let Some(lost) = &lost {
                // It would only wait for its limits.
                self.finish(self.run_context.record_without_run(&case, lost.clone()));
                continue;
            }
            let _ = self.events.send(Event::CaseStarted { id: case.id.clone() });
            let (shared, server, controls, running_case) = (self.clone(), Arc::clone(server), Arc::clone(&controls), Arc::clone(&case));
            let gateway = gateway.cloned();
            running.start(case, async move {
                let record = shared.run_context.execute(&running_case, server.as_ref(), gateway.as_deref(), &controls).await;
                drop(permit);
                shared.finish(record);
            });
        }
        running.end(self).await;
    }
}

/// Neighbours in a matrix share a driver, and a driver takes only a few requests at a time: mixes them, the same way in every run.
fn mix(cases: &mut [Arc<Case>]) {
    cases.sort_by_cached_key(|case| {
        let mut hasher = DefaultHasher::new();
        case.id.hash(&mut hasher);
        hasher.finish()
    });
}

/// The cases that have begun and not ended, by their tasks.
#[derive(Default)]
struct Running {
    tasks: JoinSet<()>,
    cases: BTreeMap<tokio::task::Id, Arc<Case>>,
}

impl Running {
    fn start(&mut self, case: Arc<Case>, task: impl Future<Output = ()> + Send + 'static) {
        let handle = self.tasks.spawn(task);
        self.cases.insert(handle.id(), case);
    }

    fn take_ended(&mut self, shared: &Shared) {
        while let Some(joined) = self.tasks.try_join_next_with_id() {
            self.joined(joined, shared);
        }
    }

    async fn end(mut self, shared: &Shared) {
        while let Some(joined) = self.tasks.join_next_with_id().await {
            self.joined(joined, shared);
        }
    }

    /// A case whose task panicked is an error of the harness, never lost.
    fn joined(&mut self, joined: Result<(tokio::task::Id, ()), tokio::task::JoinError>, shared: &Shared) {
        match joined {
            Ok((id, ())) => {
                self.cases.remove(&id);
            }
            Err(error) => {
                if let Some(case) = self.cases.remove(&error.id()) {
                    shared.finish(shared.run_context.record_without_run(&case, CaseError::Panic(error).into()));
                }
            }
        }
    }
}
