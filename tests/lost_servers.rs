//! A server that ends by itself while cases run: what they did not pass with is an error of the environment, never a failure.

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use model::outcome::{ErrorKind, Outcome, SkipReason};
use model::report::Report;
use os::toolchain::PostgresBuild;

use crate::support::middle::Middle;
use crate::support::{REPORT, newest_postgres};

/// Rounds that no test sees the end of: the first case that does not pass ends them.
pub(crate) const ROUNDS: &str = "100";

/// What such a run is given beside them.
pub(crate) const OPTIONS: [&str; 3] = [REPORT[0], REPORT[1], "--fail-fast"];

/// The end of a run one of whose servers, with a name that begins with `lost`, ended in its middle: its cases are errored, and
/// none fails.
pub(crate) fn assert_errored(run: &mut Middle, lost: &str) {
    let code = run.harness.wait().code();
    let said = run.harness.said();
    assert_eq!(code, Some(3), "{said}");
    let report = std::fs::read(run.directory.path().join("report.json")).expect("a report");
    let report: Report = serde_json::from_slice(&report).expect("is a report");
    let mut errors = 0;
    for case in &report.cases {
        match &case.outcome {
            Outcome::Pass | Outcome::Deviates { .. } | Outcome::Skipped(SkipReason::FailFast) => {}
            Outcome::Errored { kind: ErrorKind::Lost, text: message }
                if message.starts_with(lost) && message.contains(" is no longer usable: ") =>
            {
                errors += 1;
                let (_, log) = message.rsplit_once("its log: ").unwrap_or_else(|| panic!("a log is named: {message}"));
                assert!(run.directory.path().join(log).is_file(), "{log} is there after the run");
            }
            other => panic!("{}: {other:?}", case.id),
        }
    }
    // How many had passed by then is up to the machine.
    assert!(errors > 0, "{said}");
}

#[test]
fn a_server_that_is_killed_in_mid_run_makes_errors_and_no_failures() {
    let Some(PostgresBuild { major, .. }) = newest_postgres() else { return };
    let mut run = Middle::reach(major, ROUNDS, &OPTIONS);
    let name = format!("postgres-{major}-documented");
    kill(Pid::from_raw(postmaster(&run.run_directory.join(&name))), Signal::SIGKILL).expect("it is there");
    assert_errored(&mut run, &name);
    run.assert_nothing_is_left();
}

/// The first line of the file that PostgreSQL keeps in its data directory.
fn postmaster(server: &Path) -> i32 {
    let lines = std::fs::read_to_string(server.join("data/postmaster.pid")).expect("it runs");
    lines.lines().next().and_then(|line| line.trim().parse().ok()).expect("a process id")
}
