//! The clients of a timeline: each goes on at a steady rate until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::super::observe::{Call, Testimony, Trouble};
use super::Stage;
use super::journal::SILENCE;
use check::timeline::Attempt;
use driver::exec::protocol::Failure;
use driver::{HeldSession, Queried, classify};
use environment::ReplicationState;
use model::case::{ConnectPlan, Expectation, Expected};
use model::driver::Family;
use model::observation::{ClientObservation, ClientOutcome, Observation, Refused};
use model::refusal::{Refusal, Stage as ConnectionStage};
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
pub(super) async fn run(stage: Arc<Stage>, index: usize, stop: Stop) {
    let Some(client) = stage.plan.clients.get(index).cloned() else { return };
    let ended = match client.kind {
        ClientKind::Held => held(&stage, index, &client.connect, stop).await,
        ClientKind::Pool => pool(&stage, index, &client.connect, client.max_age, stop).await,
        ClientKind::New => {
            let places = if client.limit.is_some() { IMPATIENT_IN_FLIGHT } else { CONNECTIONS_IN_FLIGHT };
            new(&stage, index, &client.connect, places, stop).await
        }
        ClientKind::Replication => replication(&stage, index, stop).await,
    };
    if let Err(trouble) = ended {
        stage.journal.fail(trouble);
    }
}

async fn held(stage: &Stage, index: usize, plan: &ConnectPlan, mut stop: Stop) -> Result<(), Trouble> {
    let mut session = match open(stage, index, plan).await? {
        Ok(session) => session,
        Err(refused) => {
            refused.note(stage, index).await?;
            stage.journal.lose(index);
            return Ok(());
        }
    };
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        if !session.query(stage, index).await? {
            stage.journal.lose(index);
            break;
        }
    }
    session.close(stage, index).await
}

async fn pool(stage: &Arc<Stage>, index: usize, plan: &ConnectPlan, max_age: Duration, mut stop: Stop) -> Result<(), Trouble> {
    let mut pooled: Option<Kept> = None;
    // A pool waits neither for sessions that it gives up, nor for what others say of connections that it didn't get.
    let mut aside: JoinSet<Result<(), Trouble>> = JoinSet::new();
    let close = |session: Kept| {
        let stage = Arc::clone(stage);
        async move { session.close(&stage, index).await }
    };
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        let usable = match pooled.take() {
            Some(mut session) if session.opened.elapsed() < max_age => {
                if session.query(stage, index).await? {
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
            match open(stage, index, plan).await? {
                Ok(session) => pooled = Some(session),
                Err(refused) => {
                    let stage = Arc::clone(stage);
                    aside.spawn(async move { refused.note(&stage, index).await });
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

async fn new(stage: &Arc<Stage>, index: usize, plan: &ConnectPlan, places: usize, stop: Stop) -> Result<(), Trouble> {
    overlapping(stop, places, |place| {
        let (stage, plan) = (Arc::clone(stage), plan.clone());
        async move { attempt(&stage, index, &plan, place).await }
    })
    .await
}

/// Begins an attempt at every tick, also while others are under way, as long as there is a place; waits for all of them in the end.
async fn overlapping<F>(mut stop: Stop, places: usize, begin: impl Fn(OwnedSemaphorePermit) -> F) -> Result<(), Trouble>
where
    F: Future<Output = Result<(), Trouble>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(places));
    let mut attempts: JoinSet<Result<(), Trouble>> = JoinSet::new();
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

fn done(ended: Result<Result<(), Trouble>, tokio::task::JoinError>) -> Result<(), Trouble> {
    ended.unwrap_or_else(|error| Err(Trouble::Error(format!("the harness itself failed: {error}"))))
}

/// One connection, and what its witnesses say. `place` is given back once the client has its answer.
async fn attempt(stage: &Stage, index: usize, plan: &ConnectPlan, place: OwnedSemaphorePermit) -> Result<(), Trouble> {
    let finished = Finished::make(stage, index, plan, false).await?;
    drop(place);
    finished.note(stage, index).await
}

/// A connection that was made, and the phase of its end: of one that counts for a phase, the phase.
struct Finished {
    call: Call,
    phase: usize,
}

impl Finished {
    async fn make(stage: &Stage, index: usize, plan: &ConnectPlan, keep: bool) -> Result<Self, Trouble> {
        let _files = stage.files.read().await;
        let call = stage.workshop.call(plan, &stage.scene(index), keep).await?;
        // Not before: the changes may be done while files or relay are waited for, and the connection begin afterwards.
        Ok(Self { call, phase: stage.phase.load(Ordering::Relaxed) })
    }

    /// Asks the other witnesses of a connection that is over, and writes the attempt down.
    async fn note(self, stage: &Stage, index: usize) -> Result<(), Trouble> {
        let Self { call, phase } = self;
        let (from, to) = (stage.journal.at(call.begun), stage.journal.at(call.ended));
        let result = result(&call.testimony.client.outcome, to.saturating_sub(from));
        let wanted = waited_for(stage, phase, &call.testimony.client);
        let observation = stage.workshop.witnesses(call.testimony, &stage.scene(index), wanted.as_ref(), None).await?;
        stage.journal.add(index, Attempt { from, to, fresh: true, result, observation: Some(observation) });
        Ok(())
    }
}

/// A session that is kept.
struct Kept {
    session: Box<dyn HeldSession>,
    testimony: Testimony,
    opened: Instant,
}

/// Opens a session and writes the attempt down; `Err` where it was refused, which is not written down yet.
async fn open(stage: &Stage, index: usize, plan: &ConnectPlan) -> Result<Result<Kept, Finished>, Trouble> {
    let mut finished = Finished::make(stage, index, plan, true).await?;
    let Some(session) = finished.call.session.take() else { return Ok(Err(finished)) };
    let Call { testimony, begun, ended, .. } = finished.call;
    let (from, to) = (stage.journal.at(begun), stage.journal.at(ended));
    let observation = Observation { client: testimony.client.clone(), server_log: Vec::new(), wire: None };
    stage.journal.add(index, Attempt { from, to, fresh: true, result: Ok(to.saturating_sub(from)), observation: Some(observation) });
    Ok(Ok(Kept { session, testimony, opened: ended }))
}

impl Kept {
    /// One query, written down; false once the session is over.
    async fn query(&mut self, stage: &Stage, index: usize) -> Result<bool, Trouble> {
        let from = stage.journal.now();
        let queried = {
            let mut query = self.session.query(stage.limit(index));
            match tokio::time::timeout(SILENCE, query.as_mut()).await {
                Ok(queried) => queried?,
                Err(_) => {
                    stage.journal.wait(index);
                    query.await?
                }
            }
        };
        let to = stage.journal.now();
        let result = match queried {
            Queried::Answered => Ok(to.saturating_sub(from)),
            Queried::Ended(refused) => Err(refused),
        };
        let answered = result.is_ok();
        stage.journal.add(index, Attempt { from, to, fresh: false, result, observation: None });
        Ok(answered)
    }

    /// Ends the session, and lets wire and log say whether it was what the client took it for.
    async fn close(self, stage: &Stage, index: usize) -> Result<(), Trouble> {
        self.session.close().await;
        let observation = stage.workshop.witnesses(self.testimony, &stage.scene(index), None, None).await?;
        match check::agree::disagreements(0, stage.service, &observation).first() {
            None => Ok(()),
            Some(mismatch) => Err(Trouble::Error(format!(
                "a kept session was not what its client took it for: {:?} expected {}, saw {}",
                mismatch.witness, mismatch.expected, mismatch.observed
            ))),
        }
    }
}

async fn replication(stage: &Arc<Stage>, index: usize, stop: Stop) -> Result<(), Trouble> {
    let replication = stage.replication.clone().ok_or_else(|| Trouble::Error("the installation has no replica".to_owned()))?;
    overlapping(stop, CHANGES_IN_FLIGHT, |place| {
        let (stage, replication) = (Arc::clone(stage), Arc::clone(&replication));
        async move {
            let from = stage.journal.now();
            let state = replication.probe(REPLICATION_LIMIT).await.map_err(|error| Trouble::Error(error.to_string()))?;
            let to = stage.journal.now();
            drop(place);
            stage.journal.add(index, Attempt { from, to, fresh: true, result: arrival(state), observation: None });
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
            refusal: Refusal::TimedOut(ConnectionStage::Query),
            stage: Some(ConnectionStage::Query),
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
fn waited_for(stage: &Stage, phase: usize, client: &ClientObservation) -> Option<Expectation> {
    let ClientOutcome::Refused(refused) = &client.outcome else { return None };
    let expectation = &stage.plan.phases.get(phase)?.expectation;
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
