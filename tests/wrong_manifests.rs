//! Wrong deployments: the shipped manifests with one change, which must show in the run's verdict and for its own reason.

use std::path::Path;

use model::outcome::{Outcome, OutcomeKind};

use crate::support::{REPORT, Ran, harness, harness_says, ran, shipped_manifests, skipped, toolchain, write, write_manifests};

/// A copy of the shipped manifests with `line` of a file replaced.
fn manifests(directory: &Path, file: &str, line: &str, other: &str) {
    let mut files = shipped_manifests();
    let text = files.get_mut(Path::new(file)).expect("a shipped file");
    assert_eq!(text.matches(line).count(), 1, "{line:?} in {file}");
    *text = text.replace(line, other);
    write_manifests(&directory.join("manifests"), &files);
}

fn run_redis(port: &str) -> Option<Ran> {
    if toolchain().redis.is_none() {
        skipped("no Redis is installed; `make setup` brings it");
        return None;
    }
    let directory = tempfile::tempdir().expect("a directory");
    manifests(directory.path(), "50-redis.yaml", "    port 0\n", port);
    let args = ["run", "redis/plaintext*", "redis/auth-clients", "--manifests", "manifests", "--driver", "redis-rs"];
    Some(ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT[..]].concat())))
}

#[test]
fn a_redis_with_a_port_without_tls_is_not_conformant_and_the_shipped_one_is() {
    // Another number, the TLS port's, and Redis' own default.
    for port in ["    port 7000\n", "    port 6379\n", ""] {
        let Some(Ran { code, report, said }) = run_redis(port) else { return };
        assert_eq!(code, 1, "{port:?}: {said}");
        let failed: Vec<_> = report.cases.iter().filter(|case| case.outcome.kind() != OutcomeKind::Pass).collect();
        assert_eq!(failed.len(), 2, "{port:?}: {said}");
        for case in failed {
            assert_eq!(case.scenario, "redis/plaintext-port", "{said}");
            let Outcome::Fail(mismatches) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
            let observed = if case.id.contains("password=right") { "plaintext session" } else { "redis-no-auth" };
            assert!(mismatches.iter().any(|mismatch| mismatch.observed.contains(observed)), "{}: {mismatches:?}", case.id);
        }
        assert!(said.contains("redis.auth-clients"), "the claim is refuted: {said}");
    }
    let Some(Ran { code, report, said }) = run_redis("    port 0\n") else { return };
    assert_eq!(code, 0, "{said}");
    assert!(report.cases.iter().filter(|case| case.scenario == "redis/plaintext-port").count() == 2, "{said}");
}

#[test]
fn a_cluster_that_the_operators_webhook_refuses_is_no_input_for_a_run() {
    let directory = tempfile::tempdir().expect("a directory");
    manifests(directory.path(), "40-postgres.yaml", "    pg_hba:\n", "    parameters:\n      ssl: \"off\"\n    pg_hba:\n");
    let (code, _, said) = harness_says(directory.path(), &["run", "postgres/documented-rule", "--manifests", "manifests"]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("manifests/40-postgres.yaml:19:7: `ssl`"), "{said}");
    assert!(said.contains("Can't set fixed configuration parameter"), "{said}");
}

/// The reload label of PostgreSQL's trusted CA, in the template of its Certificate.
const TEMPLATE: &str = "  # CloudNativePG looks at the label of the Secret, not of the Certificate.\n  secretTemplate:\n    labels:\n      cnpg.io/reload: \"true\"\n";

/// Whether the new root arrives in `renewal/reload-label`, with the label as the template writes it replaced by what a Secret has.
fn reload_label(directory: &Path, secret: &str) -> Option<Ran> {
    if toolchain().postgres.iter().all(|build| build.major != 18) {
        skipped("PostgreSQL 18 is not installed; `make setup` brings it");
        return None;
    }
    manifests(directory, "10-certificate-authority.yaml", TEMPLATE, "");
    write(directory, "manifests/15-secret.yaml", secret);
    let args = ["run", "renewal/reload-label", "--manifests", "manifests", "--driver", "rustls"];
    Some(ran(directory, harness(directory, &[&args[..], &REPORT[..]].concat())))
}

#[test]
fn the_reload_label_of_a_secret_in_the_manifests_counts_as_that_of_a_template() {
    let secret = |labels: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: mtls-ca-cert, namespace: nautobot{labels}}}\n");
    let directory = tempfile::tempdir().expect("a directory");
    let Some(Ran { code, said, .. }) = reload_label(directory.path(), &secret(", labels: {cnpg.io/reload: \"\"}")) else { return };
    assert_eq!(code, 0, "{said}");
    let directory = tempfile::tempdir().expect("a directory");
    let Some(Ran { code, said, .. }) = reload_label(directory.path(), &secret("")) else { return };
    assert_eq!(code, 1, "without the label nothing reloads: {said}");
    assert!(said.contains("the new root arrives by the label"), "the phase is named: {said}");
}
