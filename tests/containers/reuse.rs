//! Containers that serve several servers, one after another.

use model::outcome::OutcomeKind;
use model::report::Report;

use super::ends::CONTAINERS;
use super::outside::{IMAGES, Outside, POSTGRES};
use crate::support::{PATIENCE, REPORT, Running, harness};

/// How often the timeline is run.
const ROUNDS: u32 = 3;

/// Containers with a PostgreSQL that a run of this timeline makes; all of its cases pass.
fn made(outside: &Outside, timeline: &str) -> u32 {
    let directory = tempfile::tempdir().expect("a directory");
    let rounds = ROUNDS.to_string();
    let args = ["run", timeline, "--postgres", "17", "--driver", "rustls", "--jobs", "1", "--repeat", &rounds];
    let events = outside.events();
    let mut run = Running::start(harness(directory.path(), &[&args[..], &REPORT, &CONTAINERS].concat()));
    // One timeline after the other.
    assert_eq!(run.wait_for(ROUNDS * PATIENCE).code(), Some(0), "{}", run.said());
    let report = std::fs::read(directory.path().join("report.json")).expect("a report");
    let report: Report = serde_json::from_slice(&report).expect("is a report");
    assert_eq!((report.cases.len(), report.totals.outcomes[&OutcomeKind::Pass]), (ROUNDS as usize, ROUNDS as usize), "{}", run.said());
    events.created(run.pid()).iter().filter(|image| *image == POSTGRES).map(|_| 1).sum()
}

#[test]
fn timelines_take_over_the_containers_of_those_that_ended() {
    let Some(outside) = Outside::here(&IMAGES) else { return };
    assert_eq!(made(&outside, "renewal/file-swap*"), 1);
}

#[test]
fn a_container_in_which_a_fault_was_made_is_not_used_again() {
    let Some(outside) = Outside::here(&IMAGES) else { return };
    assert_eq!(made(&outside, "faults/killed-server"), ROUNDS);
}
