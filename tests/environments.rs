//! The same cases by processes on this machine and in containers: the same verdicts.

use std::io::Write as _;

use environment::container::engine::Engine;
use model::report::Report;
use report::parity::{Known, compare, sort};

use crate::support::{REPORT, harness, not_in_ci, ran};

/// What the cases need that no registry is asked for.
const IMAGES: [&str; 5] = [
    "mtls-conformance/postgres:15",
    "mtls-conformance/postgres:17",
    "mtls-conformance/redis:7.0",
    "mtls-conformance/haproxy:2.6",
    "mtls-conformance/clients:trixie",
];

/// The scenarios that both environments can run, and that say the most about TLS.
const SCENARIOS: [&str; 4] = ["postgres/*", "redis/*", "gateway/*", "openssl/*"];

/// Of each family of clients one. More of them would tell more about the clients, and no more about the environments.
const DRIVERS: &str = "rustls,libpq-15,redis-rs,redis-py";

/// Differences that are right. One that is not seen any more makes the test fail.
const KNOWN: [Known<'static>; 1] = [Known {
    places: "openssl/server-pod*",
    what: "*",
    reason: "it looks into the server's pod: only the environment `container` has one",
}];

#[test]
fn the_core_scenarios_come_to_the_same_verdicts_here_and_in_containers() {
    if let Some(reason) = missing() {
        return not_in_ci(&reason);
    }
    let here = report("local");
    let there = report("container");
    let sorted = sort(compare(&here, &there), &KNOWN);
    let lines = |differences: &[String]| differences.join("\n");
    for (reason, count) in &sorted.explained {
        let _ = writeln!(std::io::stderr(), "{count} known differences between the environments: {reason}");
    }
    let unexplained: Vec<String> = sorted.unexplained.iter().map(ToString::to_string).collect();
    assert!(unexplained.is_empty(), "{} differences (local / container):\n{}", unexplained.len(), lines(&unexplained));
    assert!(sorted.unused.is_empty(), "known differences that were not seen:\n{}", lines(&sorted.unused));
}

/// Why containers can't be started here.
fn missing() -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let engine = match Engine::connect().await {
            Ok(engine) => engine,
            Err(error) => return Some(error.to_string()),
        };
        for image in IMAGES {
            if !engine.present(image).await.expect("the engine tells") {
                return Some(format!("the image {image} is not there; `make images` builds it"));
            }
        }
        None
    })
}

fn report(environment: &str) -> Report {
    let directory = tempfile::tempdir().expect("a directory");
    let mut args = vec!["run", "--environment", environment, "--postgres", "15,17", "--driver", DRIVERS];
    args.extend(SCENARIOS);
    // The versions that Debian 12 has, as most machines that run this: what differs then is the environment's doing.
    args.extend([
        "--image-set",
        "offline",
        "--image",
        "redis=mtls-conformance/redis:7.0",
        "--image",
        "haproxy=mtls-conformance/haproxy:2.6",
    ]);
    let ran = ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT].concat()));
    assert_eq!(ran.code, 0, "{environment}: {}", ran.said);
    let _ = writeln!(std::io::stderr(), "{environment}: {} cases in {:.1} s", ran.report.totals.cases, ran.report.totals.wall_seconds);
    ran.report
}
