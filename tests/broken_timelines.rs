//! Timelines broken on purpose: of every timeline in our scenarios, the thing that it watches is broken (trust left stale, a reload left
//! out, a label missing), and it fails in the phase where that must show. That it passes as it stands is what `cargo test --test scenarios`
//! shows.

use std::collections::BTreeSet;

use load::ScenarioSet;
use model::outcome::{Outcome, SkipReason};
use model::report::CaseRecord;

use crate::support::{REPORT, Ran, harness, ran, repository, skipped};

/// One timeline, broken in one place.
struct Broken {
    scenario: &'static str,
    /// The phase that is changed, from 1.
    phase: usize,
    /// What stands in it, and what takes its place.
    from: &'static str,
    to: &'static str,
    /// What has no meaning without that, and what takes its place. Both empty: nothing.
    and: (&'static str, &'static str),
    /// The driver; empty for streaming replication.
    driver: &'static str,
    /// The phase that must fail first, from 1.
    fails: usize,
    /// What must fail there.
    what: &'static str,
}

const fn broken(
    (scenario, driver): (&'static str, &'static str),
    phase: usize,
    from: &'static str,
    to: &'static str,
    (fails, what): (usize, &'static str),
) -> Broken {
    Broken { scenario, phase, from, to, and: ("", ""), driver, fails, what }
}

/// A fault that is not made, and what would end it: in place of both stands something that changes nothing.
const fn unharmed(
    of: (&'static str, &'static str),
    phase: usize,
    fault: &'static str,
    end: &'static str,
    nothing: &'static str,
    fails: (usize, &'static str),
) -> Broken {
    Broken { and: (end, nothing), ..broken(of, phase, fault, nothing, fails) }
}

const RENEW_TRUST: &str = "        - renew: {certificate: mtls-ca-cert}\n";
/// Before anything starts, the replica gets a certificate of a CA that the primary does not trust.
const STRANGER: &str =
    "  setup:\n    - rekey: {certificate: mtls-ca}\n    - rekey: {certificate: nautobot-cluster-replication}\n  outages:\n";
const RECONCILE: &str = "        - reconcile\n";
const RELOAD: &str = "- reload: postgres";
/// Brings the files alone: they are there already.
const SYNC: &str = "- sync: postgres";
const TO_ITSELF: &str = "with: {secret: nautobot-cluster-server-tls}";

const BROKEN: &[Broken] = &[
    broken(("renewal/ca-same-key", "rustls"), 2, "- renew: {certificate: mtls-ca}", "- rekey: {certificate: mtls-ca}", (3, "new: outcome")),
    broken(("renewal/ca-trust-first", "rustls"), 2, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@1]", (4, "new: outcome")),
    broken(("renewal/ca-trust-first", "libpq-18"), 4, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@2]", (4, "new: outcome")),
    broken(("renewal/ca-leaf-first", "rustls"), 4, RENEW_TRUST, "", (4, "new: outcome")),
    broken(("renewal/ca-server-leaf-first", "rustls"), 3, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@1]", (3, "new: outcome")),
    broken(("renewal/ca-new-trust-only", "rustls"), 4, RELOAD, SYNC, (4, "new: outcome")),
    // As it stands, and without its deviation: the trust that the documents forget is stale.
    broken(("renewal/ca-stale-secret", "rustls"), 3, "", "", (3, "new: outcome")),
    // The label is missing, and it is there where it should be missing. (cert-manager puts it back whenever it issues the Certificate.)
    broken(
        ("renewal/reload-label", "rustls"),
        3,
        "      do:\n",
        "      do:\n        - label: {secret: mtls-ca-cert, label: cnpg.io/reload}\n",
        (3, "new: outcome"),
    ),
    broken(("renewal/reload-label", "rustls"), 4, "label: cnpg.io/reload}", "label: cnpg.io/reload, value: \"true\"}", (4, "new: outcome")),
    broken(("renewal/reload-label-server", "rustls"), 2, RECONCILE, "", (2, "new: server_certificate")),
    broken(("replication/stream", ""), 1, "  outages:\n", STRANGER, (1, "replica: outcome")),
    broken(("replication/reload-label", ""), 3, RECONCILE, "", (3, "replica: not settled")),
    broken(("renewal/file-swap", "rustls"), 3, RELOAD, SYNC, (3, "new: server_certificate")),
    broken(("renewal/file-swap", "libpq-18"), 3, RELOAD, SYNC, (3, "pool: server_certificate")),
    broken(("renewal/bad-file", "rustls"), 2, "with: garbage", TO_ITSELF, (2, "objection")),
    broken(("renewal/client-leaf", "rustls"), 4, "        - sync: client\n", "", (4, "new: outcome")),
    broken(("renewal/server-expiry", "rustls"), 4, RELOAD, SYNC, (4, "new: outcome")),
    broken(("renewal/ca-expiry", "libpq-18"), 3, "        - sync: client\n", "", (3, "new: outcome")),
    broken(("renewal/revocation", "rustls"), 7, "        - drop_crl\n", "", (7, "new: outcome")),
    broken(("renewal/restart", "rustls"), 2, "- restart: postgres", "- reload: postgres", (2, "held: not settled")),
    // It ends while the server restarts: no attempt of the phase sees that.
    broken(("renewal/restart", "rustls"), 2, "held: lost", "held: ok", (2, "held: outcome")),
    broken(("renewal/rules", "rustls"), 3, RELOAD, SYNC, (3, "new: outcome")),
    broken(("renewal/redis-file-swap", "redis-rs"), 3, "- reload: redis", "- sync: redis", (3, "new: server_certificate")),
    broken(("renewal/redis-bad-file", "redis-rs"), 2, "- reload: redis", "- sync: redis", (2, "objection")),
    broken(("renewal/redis-ca-trust-first", "redis-rs"), 2, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@1]", (3, "new: outcome")),
    broken(("renewal/redis-ca-leaf-first", "redis-rs"), 4, RENEW_TRUST, "", (4, "new: outcome")),
    broken(("renewal/redis-client-leaf", "redis-rs"), 3, "        - sync: client\n", "", (3, "new: outcome")),
    broken(("gateway/restart", "rustls"), 3, "- restart: gateway", "- reload: postgres", (3, "held: not settled")),
    broken(("gateway/restart-redis", "redis-rs"), 2, "- restart: gateway", "- reload: redis", (2, "held: not settled")),
    broken(("site/renewal", "rustls"), 5, "        - push\n", "", (5, "new: outcome")),
    broken(("site/renewal", "rustls"), 4, "        - refresh\n", "        - push\n        - refresh\n", (4, "new: outcome")),
    broken(("site/renewal", "rustls"), 4, "        - refresh\n", "        - push\n        - refresh\n", (4, "pool: outcome")),
    broken(("site/renewal-redis", "redis-rs"), 5, "        - push\n", "", (5, "new: outcome")),
    broken(("nautobot/renewal", "nautobot-django"), 3, "        - sync: client\n", "", (3, "new: outcome")),
    broken(("nautobot/renewal-redis", "nautobot-redis"), 3, "        - sync: client\n", "", (3, "new: outcome")),
    broken(
        ("renewal/client-ca-secret", "rustls"),
        3,
        "clientCASecret: mtls-ca-cert",
        "clientCASecret: nautobot-redis-server-tls",
        (3, "new: outcome"),
    ),
    broken(
        ("renewal/redis-ca-same-key", "redis-rs"),
        2,
        "- renew: {certificate: mtls-ca}",
        "- rekey: {certificate: mtls-ca}",
        (2, "new: outcome"),
    ),
    broken(("renewal/redis-ca-new-trust-only", "redis-rs"), 2, RENEW_TRUST, "", (2, "new: outcome")),
    broken(("renewal/redis-server-expiry", "redis-rs"), 4, "- reload: redis", "- sync: redis", (4, "new: outcome")),
    broken(("replication/server-leaf-first", ""), 4, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@1]", (4, "replica: not settled")),
    broken(("replication/trust-first", ""), 2, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@1]", (3, "replica: not settled")),
    broken(("replication/leaf-first", ""), 4, "[mtls-ca@1, mtls-ca@2]", "[mtls-ca@1]", (4, "replica: not settled")),
    broken(("replication/stale-certificate", ""), 4, RELOAD, SYNC, (4, "replica: not settled")),
    unharmed(("faults/killed-server", "rustls"), 2, "- kill: postgres", "- start: postgres", SYNC, (2, "new: outcome")),
    // Stopped in order, it has nothing to recover.
    broken(("faults/killed-server", "rustls"), 2, "- kill: postgres", "- stop: postgres", (3, "server_says")),
    unharmed(("faults/paused-server", "rustls"), 2, "- pause: postgres", "- resume: postgres", SYNC, (2, "patient: outcome")),
    // Killed where it was to hang, and hanging where it was to go on.
    broken(
        ("faults/paused-server", "rustls"),
        2,
        "- pause: postgres",
        "- pause: postgres\n        - kill: postgres\n        - start: postgres\n        - pause: postgres",
        (2, "patient: outcome"),
    ),
    broken(("faults/paused-server", "rustls"), 3, "- resume: postgres", SYNC, (3, "new: not settled")),
    unharmed(("faults/killed-redis", "redis-rs"), 2, "- kill: redis", "- start: redis", "- sync: redis", (2, "new: outcome")),
    unharmed(("faults/paused-redis", "redis-rs"), 2, "- pause: redis", "- resume: redis", "- sync: redis", (2, "patient: outcome")),
    unharmed(("faults/cut-network", "rustls"), 2, "- cut: postgres", "- mend: postgres", SYNC, (2, "new: outcome")),
    unharmed(("faults/cut-network-redis", "redis-rs"), 2, "- cut: redis", "- mend: redis", "- sync: redis", (2, "new: outcome")),
    unharmed(("faults/gateway", "rustls"), 2, "- pause: gateway", "- resume: gateway", SYNC, (2, "held: outcome")),
    unharmed(("faults/gateway", "rustls"), 4, "- kill: gateway", "- start: gateway", SYNC, (4, "new: outcome")),
    unharmed(("faults/replication", ""), 2, "- pause: replica", "- resume: replica", SYNC, (2, "replica: refused")),
    unharmed(("faults/replication", ""), 4, "- kill: replica", "- start: replica", SYNC, (4, "replica: refused")),
    unharmed(("faults/replication", ""), 6, "- kill: postgres", "- start: postgres", SYNC, (6, "replica: refused")),
];

impl Broken {
    fn id(&self, index: usize) -> String {
        format!("broken/{index}-{}", self.scenario.replace('/', "-"))
    }

    /// The scenario's text with its new id and the change.
    fn text(&self, index: usize) -> String {
        let file = repository().join("scenarios").join(self.scenario).with_extension("yaml");
        let text = std::fs::read_to_string(&file).expect("readable");
        let (start, _) = text
            .match_indices("\n    - title: ")
            .nth(self.phase - 1)
            .unwrap_or_else(|| panic!("{} has no phase {}", file.display(), self.phase));
        let (before, after) = text.split_at(start);
        assert!(after.contains(self.from), "{}: phase {} no longer holds {:?}: break another thing", file.display(), self.phase, self.from);
        let after = after.replacen(self.from, self.to, 1);
        assert!(after.contains(self.and.0), "{}: it no longer holds {:?}", file.display(), self.and.0);
        let changed = format!("{before}{}", after.replacen(self.and.0, self.and.1, 1));
        changed.replacen(&format!("id: {}\n", self.scenario), &format!("id: {}\n", self.id(index)), 1)
    }

    /// Of the scenario's cases one is enough.
    fn glob(&self, index: usize) -> String {
        let driver = if self.driver.is_empty() { String::new() } else { format!("*driver={}", self.driver) };
        format!("{}:*{driver}", self.id(index))
    }

    fn check(&self, record: &CaseRecord) {
        let Outcome::Fail(mismatches) = &record.outcome else { panic!("{}: {:?}", record.id, record.outcome) };
        let first = mismatches.iter().map(|mismatch| mismatch.step).min().expect("a mismatch") + 1;
        let there: Vec<&str> =
            mismatches.iter().filter(|mismatch| mismatch.step + 1 == first).map(|mismatch| mismatch.what.as_str()).collect();
        assert!(first == self.fails && there.contains(&self.what), "{}: in phase {first}: {there:?}\n{mismatches:#?}", record.id);
    }
}

/// Where the scenarios are whose timelines renew something: more than half.
const RENEWAL: &str = "renewal/";

#[test]
fn every_timeline_of_a_renewal_fails_where_the_thing_that_it_watches_is_broken() {
    each_fails_where_it_is_broken(|broken| broken.scenario.starts_with(RENEWAL));
}

#[test]
fn every_other_timeline_fails_where_the_thing_that_it_watches_is_broken() {
    each_fails_where_it_is_broken(|broken| !broken.scenario.starts_with(RENEWAL));
}

/// Runs these rows of [`BROKEN`]: a test waits for servers most of its time, so the two above go on beside each other.
fn each_fails_where_it_is_broken(tried: impl Fn(&Broken) -> bool) {
    let rows = || BROKEN.iter().enumerate().filter(|(_, broken)| tried(broken));
    let directory = tempfile::tempdir().expect("a directory");
    let mut args: Vec<String> = ["run", "--scenarios", "set"].into_iter().chain(REPORT).map(str::to_owned).collect();
    for (index, broken) in rows() {
        let path = directory.path().join("set").join(broken.id(index)).with_extension("yaml");
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
        std::fs::write(path, broken.text(index)).expect("writes");
        args.push(broken.glob(index));
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let Ran { report, said, .. } = ran(directory.path(), harness(directory.path(), &args));
    let mut failed = 0;
    for (index, broken) in rows() {
        let mut records = report.cases.iter().filter(|record| record.scenario == broken.id(index)).peekable();
        assert!(records.peek().is_some(), "{} has no case\n{said}", broken.id(index));
        for record in records {
            match &record.outcome {
                Outcome::Skipped(reason) => skipped(&format!("{}: {reason}", record.id)),
                _ => {
                    broken.check(record);
                    failed += 1;
                }
            }
        }
    }
    assert!(failed >= 10, "only {failed} could be tried\n{said}");
}

#[test]
fn a_timeline_with_a_change_that_the_environment_can_not_make_is_skipped_with_its_reason_before_anything_starts() {
    let directory = tempfile::tempdir().expect("a directory");
    let args: Vec<&str> = ["run", "faults/cut-network*", "--driver", "rustls,redis-rs"].into_iter().chain(REPORT).collect();
    let Ran { code, report, said } = ran(directory.path(), harness(directory.path(), &args));
    assert_eq!(code, 4, "nothing ran: {said}");
    assert!(report.cases.len() >= 2, "{said}");
    for record in &report.cases {
        let Outcome::Skipped(reason) = &record.outcome else { panic!("{}: {:?}", record.id, record.outcome) };
        if matches!(reason, SkipReason::ServerMissing(_)) {
            skipped(&format!("{}: {reason}", record.id));
            continue;
        }
        let expected = "the local environment can't cut a server's network: run it with --environment container";
        assert_eq!(*reason, SkipReason::EnvironmentUnable(expected.to_owned()), "{}", record.id);
        assert_eq!((record.connections, record.timeline.is_none()), (0, true), "{}", record.id);
    }
}

#[test]
fn no_timeline_of_ours_is_left_out_above() {
    let set = ScenarioSet::load(&[repository().join("scenarios")]).expect("our own scenarios");
    let timelines = set.scenarios.iter().filter(|loaded| loaded.scenario.timeline.is_some()).map(|loaded| loaded.scenario.id.raw());
    let broken: BTreeSet<&str> = BROKEN.iter().map(|broken| broken.scenario).collect();
    let missing: Vec<String> = timelines.filter(|id| !broken.contains(id.as_str())).collect();
    assert!(missing.is_empty(), "break what these watch, too: {missing:?}");
}
