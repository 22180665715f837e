//! The clients of a timeline: each goes on at a steady rate until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::super::not_run::{CaseError, Disagreement, NotRun};
use super::super::observe::{Call, PendingObservation};
use super::attempt_log::SILENCE;
use super::context::TimelineContext;
use check::timeline::Attempt;
use driver::protocol::Failure;
use driver::{HeldSession, Queried, classify};
use environment::ReplicationState;
use model::case::{ConnectPlan, Expectation, Expected};
use model::driver::Family;
use model::observation::{ClientObservation, ClientOutcome, Observation, Refused};
use model::refusal::{Refusal, Stage};
use model::timeline::ClientKind;
use model::timeline::plan::ClientExpectation;

/// From one attempt to the next: outages are reported with a resolution of 50 ms or better, and half of it leaves room for attempts that take
/// their time. What a machine really made of it is in the report.
const TICK: Duration = Duration::from_millis(25);

/// New connections in flight at a time, of one client: where the server answers late, the rate still holds.
const CONNECTIONS_IN_FLIGHT: usize = 4;

/// The same of a client with a limit of its own, which is there for a server that doesn't answer: a driver takes only a few requests at a
/// time, and its other clients need some of them.
const IMPATIENT_IN_FLIGHT: usize = 2;

/// Changes waited for at a time: as many as begin within [`REPLICATION_LIMIT`], and some more for what the log says afterwards.
const CHANGES_IN_FLIGHT: usize = 20;

/// How long a change of the primary may take to its replica before it counts as not arriving.
const REPLICATION_LIMIT: Duration = Duration::from_millis(400);

type Stop = watch::Receiver<bool>;

/// Runs the client of that index until `stop`.
pub(super) async fn run(context: Arc<TimelineContext>, index: usize, stop: Stop) {
    let Some(client) = context.plan.clients.get(index).cloned() else { return };
    let ended = match client.kind {
        ClientKind::Held => held(&context, index, &client.connect, stop).await,
        ClientKind::Pool => pool(&context, index, &client.connect, client.max_age, stop).await,
        ClientKind::New => {
            let places = if client.limit.is_some() { IMPATIENT_IN_FLIGHT } else { CONNECTIONS_IN_FLIGHT };
            new(&context, index, &client.connect, places, stop).await
        }
        ClientKind::Replication => replication(&context, index, stop).await,
    };
    if let Err(not_run) = ended {
        context.attempt_log.fail(not_run);
    }
}

async fn held(context: &TimelineContext, index: usize, plan: &ConnectPlan, mut stop: Stop) -> Result<(), NotRun> {
    let mut session = match open(context, index, plan).await? {
        Ok(session) => session,
        Err(refused) => {
            refused.note(context, index).await?;
            context.attempt_log.lose(index);
            return Ok(());
        }
    };
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        if !session.query(context, index).await? {
            context.attempt_log.lose(index);
            break;
        }
    }
    session.close(context, index).await
}

async fn pool(context: &Arc<TimelineContext>, index: usize, plan: &ConnectPlan, max_age: Duration, mut stop: Stop) -> Result<(), NotRun> {
    let mut pooled: Option<OpenSession> = None;
    // A pool waits neither for sessions that it gives up, nor for what others say of connections that it didn't get.
    let mut aside: JoinSet<Result<(), NotRun>> = JoinSet::new();
    let close = |session: OpenSession| {
        let context = Arc::clone(context);
        async move { session.close(&context, index).await }
    };
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        let usable = match pooled.take() {
            Some(mut session) if session.opened.elapsed() < max_age => {
                if session.query(context, index).await? {
                    pooled = Some(session);
                } else {
                    aside.spawn(close(session));
                }
                true
            }
            Some(old) => {
                aside.spawn(close(old));
                false
            }
            None => false,
        };
        if !usable {
            match open(context, index, plan).await? {
                Ok(session) => pooled = Some(session),
                Err(refused) => {
                    let context = Arc::clone(context);
                    aside.spawn(async move { refused.note(&context, index).await });
                }
            }
        }
        while let Some(ended) = aside.try_join_next() {
            done(ended)?;
        }
    }
    aside.extend(pooled.map(close));
    while let Some(ended) = aside.join_next().await {
        done(ended)?;
    }
    Ok(())
}

async fn new(context: &Arc<TimelineContext>, index: usize, plan: &ConnectPlan, places: usize, stop: Stop) -> Result<(), NotRun> {
    overlapping(stop, places, |place| {
        let (context, plan) = (Arc::clone(context), plan.clone());
        async move { attempt(&context, index, &plan, place).await }
    })
    .await
}

/// Begins an attempt at every tick, also while others are under way, as long as there is a place; waits for all of them in the end.
async fn overlapping<F>(mut stop: Stop, places: usize, begin: impl Fn(OwnedSemaphorePermit) -> F) -> Result<(), NotRun>
where
    F: Future<Output = Result<(), NotRun>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    let mut attempts: JoinSet<Result<(), NotRun>> = JoinSet::new();
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        // A tick without a place is left out: the resolution in the report tells.
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            attempts.spawn(begin(place));
        }
        while let Some(ended) = attempts.try_join_next() {
            done(ended)?;
        }
    }
    while let Some(ended) = attempts.join_next().await {
        done(ended)?;
    }
    Ok(())
}

fn done(ended: Result<Result<(), NotRun>, tokio::task::JoinError>) -> Result<(), NotRun> {
    ended.unwrap_or_else(|error| Err(CaseError::Panic(error).into()))
}

/// One connection, and what its witnesses say. `place` is given back once the client has its answer.
async fn attempt(context: &TimelineContext, index: usize, plan: &ConnectPlan, place: OwnedSemaphorePermit) -> Result<(), NotRun> {
    let finished = Finished::make(context, index, plan, false).await?;
    drop(place);
    finished.note(context, index).await
}

/// A connection that was made, and the phase of its end: of one that counts for a phase, the phase.
struct Finished {
    call: Call,
    phase: usize,
}

impl Finished {
    async fn make(context: &TimelineContext, index: usize, plan: &ConnectPlan, keep: bool) -> Result<Self, NotRun> {
        let _files = context.files.read().await;
        let call = context.run_context.call(plan, &context.connect_context(index), keep).await?;
        // Not before: the changes may be done while files or relay are waited for, and the connection begin afterwards.
        Ok(Self { call, phase: context.phase.load(Ordering::Relaxed) })
    }

    /// Asks the other witnesses of a connection that is over, and writes the attempt down.
    async fn note(self, context: &TimelineContext, index: usize) -> Result<(), NotRun> {
        let Self { call, phase } = self;
        let (from, to) = (context.attempt_log.at(call.begun), context.attempt_log.at(call.ended));
        let wanted = waited_for(context, phase, &call.pending.client);
        let observation = context.run_context.witnesses(call.pending, &context.connect_context(index), wanted.as_ref(), None).await?;
        let result = result(&observation.client.outcome, to.saturating_sub(from));
        context.attempt_log.add(index, Attempt { from, to, fresh: true, result, observation: Some(observation) });
        Ok(())
    }
}

/// A session that is kept.
struct OpenSession {
    session: Box<dyn HeldSession>,
    pending: PendingObservation,
    opened: Instant,
}

/// Opens a session and writes the attempt down; `Err` where it was refused, which is not written down yet.
async fn open(context: &TimelineContext, index: usize, plan: &ConnectPlan) -> Result<Result<OpenSession, Finished>, NotRun> {
    let mut finished = Finished::make(context, index, plan, true).await?;
    let Some(session) = finished.call.session.take() else { return Ok(Err(finished)) };
    let Call { pending, begun, ended, .. } = finished.call;
    let (from, to) = (context.attempt_log.at(begun), context.attempt_log.at(ended));
    let observation = Observation { client: pending.client.clone(), server_log: Vec::new(), wire: None };
    context.attempt_log.add(index, Attempt { from, to, fresh: true, result: Ok(to.saturating_sub(from)), observation: Some(observation) });
    Ok(Ok(OpenSession { session, pending, opened: ended }))
}

impl OpenSession {
    /// One query, written down; false once the session is over.
    async fn query(&mut self, context: &TimelineContext, index: usize) -> Result<bool, NotRun> {
        let from = context.attempt_log.now();
        let queried = {
            let mut query = self.session.query(context.limit(index));
            match tokio::time::timeout(SILENCE, query.as_mut()).await {
                Ok(queried) => queried?,
                Err(_) => {
                    context.attempt_log.wait(index);
                    query.await?
                }
            }
        };
        let to = context.attempt_log.now();
        let result = match queried {
            Queried::Answered => Ok(to.saturating_sub(from)),
            Queried::Ended(refused) => Err(refused),
        };
        let answered = result.is_ok();
        context.attempt_log.add(index, Attempt { from, to, fresh: false, result, observation: None });
        Ok(answered)
    }

    /// Ends the session, and lets wire and log say whether it was what the client took it for.
    async fn close(self, context: &TimelineContext, index: usize) -> Result<(), NotRun> {
        self.session.close().await;
        let observation = context.run_context.witnesses(self.pending, &context.connect_context(index), None, None).await?;
        match check::agree::disagreements(0, context.service, &observation).into_iter().next() {
            None => Ok(()),
            Some(mismatch) => Err(CaseError::KeptSession(Disagreement(mismatch)).into()),
        }
    }
}

async fn replication(context: &Arc<TimelineContext>, index: usize, stop: Stop) -> Result<(), NotRun> {
    let replication = context.replication.clone().ok_or(CaseError::NoReplica)?;
    overlapping(stop, CHANGES_IN_FLIGHT, |place| {
        let (context, replication) = (Arc::clone(context), Arc::clone(&replication));
        async move {
            let from = context.attempt_log.now();
            let state = replication.probe(REPLICATION_LIMIT).await?;
            let to = context.attempt_log.now();
            drop(place);
            context.attempt_log.add(index, Attempt { from, to, fresh: true, result: arrival(state), observation: None });
            Ok(())
        }
    })
    .await
}

fn arrival(state: ReplicationState) -> Result<Duration, Refused> {
    match state {
        ReplicationState::Arrived(took) => Ok(took),
        // The WAL receiver is libpq.
        ReplicationState::Refused(text) => Err(classify::refused(Family::Libpq, &Failure { text, ..Failure::default() })),
        ReplicationState::Silent => Err(Refused {
            refusal: Refusal::TimedOut(Stage::Query),
            stage: Some(Stage::Query),
            sqlstate: None,
            text: format!("a change did not arrive within {REPLICATION_LIMIT:?}, and the replica's log doesn't say why"),
        }),
    }
}

fn result(outcome: &ClientOutcome, took: Duration) -> Result<Duration, Refused> {
    match outcome {
        ClientOutcome::Session(_) => Ok(took),
        ClientOutcome::Refused(refused) => Err(refused.clone()),
    }
}

/// What the log is waited for, beside the witness of what the client saw: the texts of the phase, where that expects such a refusal.
fn waited_for(context: &TimelineContext, phase: usize, client: &ClientObservation) -> Option<Expectation> {
    let ClientOutcome::Refused(refused) = &client.outcome else { return None };
    let expectation = &context.plan.phases.get(phase)?.expectation;
    let expected = |(_, expected): &(String, ClientExpectation)| matches!(expected, ClientExpectation::Refused(classes) if classes.contains(&refused.refusal));
    expectation.clients.iter().any(expected).then(|| Expectation {
        expected: Expected::Refused(vec![refused.refusal]),
        stage: None,
        text: None,
        server_log: expectation.server_log.clone(),
        wire: None,
        settings: BTreeMap::new(),
    })
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; false where it is time to stop.
async fn next(ticks: &mut Interval, stop: &mut Stop) -> bool {
    tokio::select! {
        biased;
        // An error is the sender's end, which means the same.
        _ = stop.wait_for(|stop| *stop) => false,
        _ = ticks.tick() => true,
    }
}
