//! The clients of a timeline: each goes on at a steady rate until it is told to stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior};

use super::super::observe::{Call, Trouble};
use super::Stage;
use crate::check::timeline::Attempt;
use crate::driver::exec::protocol::Failure;
use crate::driver::{HeldSession, Queried, classify};
use crate::environment::ReplicationState;
use crate::model::case::{ConnectPlan, Expectation, Expected};
use crate::model::driver::Family;
use crate::model::observation::{ClientObservation, ClientOutcome, Refused};
use crate::model::refusal::{Refusal, Stage as ConnectionStage};
use crate::model::timeline::ClientKind;
use crate::model::timeline::plan::ClientExpectation;
use crate::wire::Relay;

/// From one attempt to the next: outages are reported with a resolution of 50 ms or better, and half of it leaves room for attempts that take
/// their time. What a machine really made of it is in the report.
const TICK: Duration = Duration::from_millis(25);

/// New connections in flight at a time, of one client: where the server answers late, the rate still holds.
const CONNECTIONS_IN_FLIGHT: usize = 4;

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
        ClientKind::New => new(&stage, index, &client.connect, stop).await,
        ClientKind::Replication => replication(&stage, index, stop).await,
    };
    if let Err(trouble) = ended {
        stage.journal.fail(trouble);
    }
}

async fn held(stage: &Stage, index: usize, plan: &ConnectPlan, mut stop: Stop) -> Result<(), Trouble> {
    let Some(mut session) = open(stage, index, plan).await? else {
        stage.journal.lose(index);
        return Ok(());
    };
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        if !session.query(stage, index).await? {
            stage.journal.lose(index);
            break;
        }
    }
    session.close(stage).await
}

async fn pool(stage: &Arc<Stage>, index: usize, plan: &ConnectPlan, max_age: Duration, mut stop: Stop) -> Result<(), Trouble> {
    let mut pooled: Option<Kept> = None;
    // A pool doesn't wait for sessions that it gives up.
    let mut closing: JoinSet<Result<(), Trouble>> = JoinSet::new();
    let mut close = |session: Kept| {
        let stage = Arc::clone(stage);
        closing.spawn(async move { session.close(&stage).await });
    };
    let mut ticks = ticks();
    while next(&mut ticks, &mut stop).await {
        pooled = match pooled.take() {
            Some(mut session) if session.opened.elapsed() < max_age => {
                if session.query(stage, index).await? {
                    Some(session)
                } else {
                    close(session);
                    None
                }
            }
            old => {
                if let Some(old) = old {
                    close(old);
                }
                open(stage, index, plan).await?
            }
        };
    }
    if let Some(session) = pooled {
        close(session);
    }
    while let Some(ended) = closing.join_next().await {
        done(ended)?;
    }
    Ok(())
}

async fn new(stage: &Arc<Stage>, index: usize, plan: &ConnectPlan, stop: Stop) -> Result<(), Trouble> {
    overlapping(stop, CONNECTIONS_IN_FLIGHT, |place| {
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
    let scene = stage.scene();
    let _turn = scene.turn().await;
    let phase = stage.phase.load(Ordering::Relaxed);
    let call = {
        let _files = stage.files.read().await;
        stage.workshop.call(plan, &scene, false).await?
    };
    drop(place);
    let attempt = finished(stage, plan, call, phase).await?;
    stage.journal.add(index, attempt);
    Ok(())
}

/// The attempt of a call that is over; it began in that phase.
async fn finished(stage: &Stage, plan: &ConnectPlan, call: Call, phase: usize) -> Result<Attempt, Trouble> {
    let (from, to) = (stage.journal.at(call.begun), stage.journal.at(call.ended));
    let result = result(&call.client.outcome, to.saturating_sub(from));
    let wanted = waited_for(stage, phase, &call.client);
    let observation = stage.workshop.witnesses(plan, call.client, call.relay, &stage.scene(), wanted.as_ref(), None).await?;
    Ok(Attempt { from, to, fresh: true, result, observation: Some(observation) })
}

/// A session that is kept, with its relay.
struct Kept {
    session: Box<dyn HeldSession>,
    relay: Option<Relay>,
    plan: ConnectPlan,
    opened: Instant,
    seen: ClientObservation,
}

/// Opens a session and writes the attempt down; `None` where it was refused.
async fn open(stage: &Stage, index: usize, plan: &ConnectPlan) -> Result<Option<Kept>, Trouble> {
    let scene = stage.scene();
    let _turn = scene.turn().await;
    let phase = stage.phase.load(Ordering::Relaxed);
    let mut call = {
        let _files = stage.files.read().await;
        stage.workshop.call(plan, &scene, true).await?
    };
    let Some(session) = call.session.take() else {
        let attempt = finished(stage, plan, call, phase).await?;
        stage.journal.add(index, attempt);
        return Ok(None);
    };
    let (from, to) = (stage.journal.at(call.begun), stage.journal.at(call.ended));
    let kept = Kept { session, relay: call.relay, plan: plan.clone(), opened: call.ended, seen: call.client };
    stage.journal.add(index, Attempt { from, to, fresh: true, result: Ok(to.saturating_sub(from)), observation: None });
    Ok(Some(kept))
}

impl Kept {
    /// One query, written down; false once the session is over.
    async fn query(&mut self, stage: &Stage, index: usize) -> Result<bool, Trouble> {
        let from = stage.journal.now();
        let queried = self.session.query(stage.workshop.limits.connect).await?;
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
    async fn close(self, stage: &Stage) -> Result<(), Trouble> {
        self.session.close().await;
        let observation = stage.workshop.witnesses(&self.plan, self.seen, self.relay, &stage.scene(), None, None).await?;
        match crate::check::agree::disagreements(0, stage.service, &observation).first() {
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

/// What the log is waited for, beside the witness of what the client saw: the texts of the phase that it began in, where that expects
/// such a refusal.
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
