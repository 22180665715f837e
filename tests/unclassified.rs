//! Messages of a client that have no class yet: they can be expected in the client's own words, and in no others.

use model::outcome::OutcomeKind;

use crate::support::{REPORT, harness, newest_postgres, ran, skipped, toolchain, write};

/// libpq binds SCRAM to the server's certificate by a digest of its signature's algorithm, and Ed25519 has none.
const CREDENTIALS: &str = "\
authorities:
  signs-with-ed25519:
    like: mtls-ca
    patch: {commonName: signs-with-ed25519, privateKey: {algorithm: Ed25519, size: null}}
identities:
  server-of-it: {certificate: nautobot-cluster-server-tls, issuer: signs-with-ed25519}
trusts:
  it: {authorities: [signs-with-ed25519]}
";

const SCENARIO: &str = "\
id: own/binding
title: SCRAM bound to a certificate that was signed with Ed25519
claims: []
deployment: documented
matrix:
  driver: [DRIVER]
  rule: {password: hostssl all all all scram-sha-256, certificate: hostssl all all all trust}
server:
  pg_hba: [hostssl all postgres all trust, \"${rule}\"]
  certificate: server-of-it
control:
  - connect: {user: postgres, trust: it}
steps:
  - connect: {sslmode: verify-full, trust: it, password: right}
    expect:
      - when: {rule: certificate}
        session: {tls: true}
      - refused: {unclassified: post-handshake}
        text: TEXT
";

#[test]
fn a_message_without_a_class_can_be_expected_in_its_own_words_and_in_no_others() {
    let Some(build) = newest_postgres() else { return };
    // The second does not tell how far it had come: the wire does.
    for driver in [&format!("libpq-{}", build.major), "psycopg2-2.9.12"] {
        match session::drivers::missing(driver, &toolchain(), &[]) {
            Some(missing) => skipped(&missing),
            None => is_expected_in_its_own_words(driver, &build.major.to_string()),
        }
    }
}

/// What a client of this driver says.
fn is_expected_in_its_own_words(driver: &str, major: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/credentials.yaml", CREDENTIALS);
    for (text, code, outcome) in [("could not find digest for NID", 0, OutcomeKind::Pass), ("no pg_hba.conf entry", 1, OutcomeKind::Fail)] {
        write(directory.path(), "checks/own/binding.yaml", &SCENARIO.replace("DRIVER", driver).replace("TEXT", text));
        let args = ["run", "own/binding", "--scenarios", "checks", "--postgres", major];
        let ran = ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT].concat()));
        assert_eq!((ran.code, ran.report.cases.len()), (code, 2), "{}", ran.said);
        for case in &ran.report.cases {
            let expected = if case.id.ends_with("rule=certificate") { OutcomeKind::Pass } else { outcome };
            assert_eq!(case.outcome.kind(), expected, "{}: {}", case.id, ran.said);
        }
    }
}
