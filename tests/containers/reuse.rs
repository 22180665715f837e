//! Containers that serve several servers, one after another.

use std::time::SystemTime;

use mtls_conformance::model::outcome::OutcomeKind;
use mtls_conformance::model::report::Report;

use super::ends::CONTAINERS;
use super::outside::{IMAGES, Outside, POSTGRES};
use crate::support::{REPORT, Running, harness};

/// How often the timeline is run.
const ROUNDS: usize = 4;

/// Containers with a PostgreSQL that a run of this timeline makes; all of its cases pass.
fn made(outside: &Outside, timeline: &str) -> usize {
    let directory = tempfile::tempdir().expect("a directory");
    let rounds = ROUNDS.to_string();
    let args = ["run", timeline, "--postgres", "17", "--driver", "rustls", "--repeat", &rounds];
    let since = SystemTime::now();
    let mut run = Running::start(harness(directory.path(), &[&args[..], &REPORT, &CONTAINERS].concat()));
    assert_eq!(run.wait().code(), Some(0), "{}", run.said());
    let report = std::fs::read(directory.path().join("report.json")).expect("a report");
    let report: Report = serde_json::from_slice(&report).expect("is a report");
    assert_eq!((report.cases.len(), report.totals.outcomes[&OutcomeKind::Pass]), (ROUNDS, ROUNDS), "{}", run.said());
    outside.created(run.pid(), since).iter().filter(|image| *image == POSTGRES).count()
}

#[test]
fn timelines_take_over_the_containers_of_those_that_ended() {
    let Some(outside) = Outside::here(&IMAGES) else { return };
    let made = made(&outside, "renewal/file-swap*");
    assert!((1..ROUNDS).contains(&made), "{made} for {ROUNDS} timelines");
}

#[test]
fn a_container_in_which_a_fault_was_made_is_not_used_again() {
    let Some(outside) = Outside::here(&IMAGES) else { return };
    assert_eq!(made(&outside, "faults/killed-server"), ROUNDS);
}
