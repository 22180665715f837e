//! Timelines that don't end, or can't go on: they keep to their limit, and say in which phase they were and what they were doing.

use std::time::{Duration, Instant};

use model::outcome::{ErrorKind, Outcome};
use report::run_result::RunResult;

use crate::support::fakes::DRIVER;
use crate::support::world::{Ran, World};

/// The limit of every timeline here: far below those of a client's call and of a phase.
const LIMIT: Duration = Duration::from_millis(600);

/// A timeline with one client that connects anew as `user`, a first phase without changes, and a second with this one.
fn timeline(user: &str, change: &str) -> World {
    let scenario = format!(
        "postgres: [17]\nmatrix: {{driver: [{DRIVER}]}}\ntimeline:\n  clients:\n    new: {{kind: new, connect: {{user: {user}}}}}\n  \
         phases:\n    - title: before\n      expect:\n        - clients: {{new: ok}}\n    \
         - title: the change\n      do:\n        - sync: postgres\n        - {change}\n      expect:\n        - clients: {{new: ok}}\n"
    );
    let mut world = World::new(&scenario, "");
    world.limits.timeline = LIMIT;
    world
}

/// What the timeline of this world says that timed out.
async fn timed_out(world: World) -> (Ran, String) {
    let begun = Instant::now();
    let ran = world.run().await;
    let took = begun.elapsed();
    // A phase alone would wait eight seconds for its clients, and a client ten for its server.
    assert!((LIMIT..LIMIT + Duration::from_secs(5)).contains(&took), "it keeps to its limit: {took:?}");
    let Outcome::TimedOut(text) = ran.outcome("fake/case").clone() else { panic!("{:?}", ran.outcome("fake/case")) };
    assert_eq!(ran.result, RunResult::Errored);
    (ran, text)
}

#[tokio::test]
async fn a_change_that_is_never_done_is_named_with_its_phase_and_what_was_seen_before_is_kept() {
    let (ran, text) = timed_out(timeline("app", "reload: postgres")).await;
    assert_eq!(text, "no end within 600ms: in phase 2 of 2, `the change`, `reload postgres` was not done");
    let record = ran.records.values().next().and_then(|record| record.timeline.as_ref()).expect("a timeline");
    assert_eq!(record.phases.iter().map(|phase| phase.title.as_str()).collect::<Vec<_>>(), ["before"]);
    assert!(record.clients[0].attempts >= 5, "what clients saw until then is in the record: {:?}", record.clients[0]);
}

#[tokio::test]
async fn a_client_that_never_shows_what_it_sees_is_named_with_its_phase() {
    let (_, text) = timed_out(timeline("hangs", "stop: postgres")).await;
    assert_eq!(text, "no end within 600ms: in phase 1 of 2, `before`, these clients had not shown what they see: new");
}

#[tokio::test]
async fn a_client_that_does_not_end_is_named_where_all_phases_are_over() {
    let mut world = timeline("hangs", "stop: postgres");
    // Too short for any client: phases are over at once.
    world.limits.phase = Duration::from_millis(50);
    let (_, text) = timed_out(world).await;
    assert_eq!(text, "no end within 600ms: all phases were over, and these clients had not ended: new");
}

#[tokio::test]
async fn a_change_that_can_not_be_made_is_an_error_of_configuration_with_its_phase() {
    let ran = timeline("app", "restart: postgres").run().await;
    let text = ran.errored("fake/case", ErrorKind::Configure);
    assert_eq!(text, "phase `the change`: restart postgres: `restart postgres` is no change of what runs");
}
