//! Timelines that wait for the end of a certificate: of one that was issued before the present one, and of one that is too far away.

use model::outcome::{ErrorKind, Outcome};
use model::report::CaseRecord;

use crate::support::{REPORT, Ran, harness, ran, skipped, toolchain, write};

/// A version that the timelines are for.
const POSTGRES: u16 = 18;

/// The drivers of the timelines: one of each way in which clients tell of an end.
const DRIVERS: [&str; 2] = ["rustls", "libpq-18"];

/// Runs this timeline with these options; its cases, or `None` where something that it needs is not installed.
fn run(timeline: &str, options: &[&str]) -> Option<(Vec<CaseRecord>, String)> {
    let toolchain = toolchain();
    if toolchain.postgres(POSTGRES).is_none() || DRIVERS.iter().any(|driver| session::drivers::missing(driver, &toolchain, &[]).is_some()) {
        skipped(&format!("PostgreSQL {POSTGRES} or one of {DRIVERS:?} is not installed; `make setup` brings them"));
        return None;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let scenario = format!(
        "id: own/ends\ntitle: The end of a certificate\nclaims: []\ndeployment: cnpg\npostgres: [{POSTGRES}]\n\
         matrix: {{driver: [{}]}}\ntimeline:\n{timeline}",
        DRIVERS.join(", ")
    );
    write(directory.path(), "set/own/ends.yaml", &scenario);
    let args: Vec<&str> = ["run", "--scenarios", "set", "own/ends"].iter().chain(options).chain(&REPORT).copied().collect();
    let Ran { report, said, .. } = ran(directory.path(), harness(directory.path(), &args));
    Some((report.cases, said))
}

/// The root is re-keyed in time, and nobody issues the leaves again: they end with the old root, which is by then the last but one.
const REKEYED_IN_TIME: &str = "  clients:
    held: {kind: held, connect: {sslmode: verify-ca}}
    new: {kind: new, connect: {sslmode: verify-ca}}
  phases:
    - title: before
      expect:
        - clients: {held: ok, new: ok}
    - title: a short CA and leaves of it
      do:
        - renew: {certificate: mtls-ca, validity: {not_before: -1h, not_after: 8s}}
        - renew: {certificate: mtls-ca-cert, validity: {not_before: -1h, not_after: 9s}}
        - renew: {certificate: nautobot-cluster-server-tls}
        - renew: {certificate: nautobot-mtls-client}
        - sync: postgres
        - reload: postgres
        - sync: client
      expect:
        - clients: {held: ok, new: ok}
    - title: the CA is re-keyed with a long life; nobody else is issued again
      do:
        - rekey: {certificate: mtls-ca, validity: {not_before: -1h, not_after: 100h}}
        - reconcile
      expect:
        - clients: {held: ok, new: ok}
    - title: the old root has ended
      do:
        - await_expiry: mtls-ca@2
      expect:
        - when: {driver: rustls}
          clients: {held: ok, new: {refused: {alert: certificate-expired}}}
        - clients: {held: ok, new: {refused: {verify: certificate}}}
  outages:
    - clients: {held: none, new: open}
";

#[test]
fn the_end_of_a_certificate_that_was_issued_before_the_present_one_can_be_waited_for() {
    let Some((cases, said)) = run(REKEYED_IN_TIME, &[]) else { return };
    assert_eq!(cases.len(), DRIVERS.len(), "{said}");
    assert!(cases.iter().all(|case| case.outcome == Outcome::Pass), "{said}");
}

#[test]
fn an_end_that_is_too_far_away_is_given_up_at_the_limit_with_its_phase_and_change() {
    let far = REKEYED_IN_TIME.replace("mtls-ca@2", "mtls-ca");
    let Some((cases, said)) = run(&far, &["--driver", "rustls", "--timeout", "12"]) else { return };
    let [CaseRecord { outcome: Outcome::TimedOut(text), .. }] = &cases[..] else { panic!("{said}") };
    let doing = "no end within 12s: in phase 4 of 4, `the old root has ended`, `await the end of mtls-ca` was not done";
    assert_eq!(text, doing);
    assert!(said.contains(doing), "the terminal tells it too\n{said}");
}

#[test]
fn a_set_up_that_waits_for_too_long_is_given_up_at_the_limit_with_its_change() {
    let far = "  setup:
    - await_expiry: mtls-ca
  clients:
    new: {kind: new, connect: {sslmode: verify-ca}}
  phases:
    - title: before
      expect:
        - clients: {new: ok}
";
    let Some((cases, said)) = run(far, &["--driver", "rustls", "--timeout", "2"]) else { return };
    let [CaseRecord { outcome: Outcome::Errored { kind: ErrorKind::Limit, text }, .. }] = &cases[..] else { panic!("{said}") };
    assert!(text.contains("set-up `await the end of mtls-ca` was not done within 2s"), "{text}");
}
