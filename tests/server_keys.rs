//! Servers that refuse their configuration: their key files, and whatever else keeps them from starting.

use std::os::unix::process::CommandExt as _;

use model::outcome::{ErrorKind, Outcome, OutcomeKind, SkipReason, Witness};
use model::report::CaseRecord;
use os::user::RunAs;

use crate::support::{
    NOBODY, REPORT, binary, can_be_another, harness, newest_postgres, open_directory, ran, repository, skipped, toolchain, write,
};

const CREDENTIALS: &str = "\
identities:
  server-key-0600: {certificate: nautobot-cluster-server-tls, key_mode: \"0600\"}
  server-key-0644: {certificate: nautobot-cluster-server-tls, key_mode: \"0644\"}
  server-key-of-another: {certificate: nautobot-cluster-server-tls, key_owned_by_other: true}
  server-key-of-root: {certificate: nautobot-cluster-server-tls, key_mode: \"0640\", key_owned_by_root: true}
";

/// Nothing is expected but sessions.
const UNEXPECTED: &str = "\
id: keys/server
title: The server's key file, as it is mounted
claims: []
deployment: documented
matrix:
  driver: [rustls]
  certificate: [server-key-0644, server-key-of-another, server-key-of-root, server-key-0600]
server:
  certificate: ${certificate}
steps:
  - connect: {sslmode: verify-full}
    expect:
      - session: {tls: true}
";

/// The case that was handed to the harness, `bug/server-key`, with the expectation that is right.
const HANDED: &str = "\
id: bug/server-key
title: The server's key file is open to others, as Kubernetes mounts Secrets
description: docker-library/postgres 777, smallstep/autocert 53, kubegres 58.
claims: []
deployment: documented
matrix:
  driver: [libpq-18, rustls]
  certificate: [server-key-0644, server-key-of-another]
server:
  certificate: \"${certificate}\"
control:
  - connect: {sslmode: disable, user: postgres}
steps:
  - connect: {sslmode: verify-full}
    expect:
      - objection: private key file
";

/// A scenario of one case with a server of this kind.
fn scenario(id: &str, service: &str, server: &str, expect: &str) -> String {
    let driver = if service == "redis" { "redis-rs" } else { "rustls" };
    format!(
        "id: {id}\ntitle: A server\nclaims: []\nservice: {service}\ndeployment: documented\nmatrix: {{driver: [{driver}]}}\n\
         server: {{{server}}}\nsteps:\n  - connect: {{}}\n    expect:\n      - {expect}\n"
    )
}

#[test]
fn a_server_key_that_others_can_read_or_another_owns_is_refused_in_postgresqls_words() {
    let Some(build) = newest_postgres() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/credentials.yaml", CREDENTIALS);
    write(directory.path(), "checks/keys/server.yaml", UNEXPECTED);
    let args = ["run", "keys/server", "--scenarios", "checks", "--postgres", &build.major.to_string()];
    let run = ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT[..]].concat()));
    assert_eq!((run.code, run.report.cases.len()), (3, 4), "{}", run.said);
    for case in &run.report.cases {
        let refused = match case.id.split("certificate=").nth(1).expect("the axis") {
            "server-key-0644" => "has group or world access",
            "server-key-of-another" if nix::unistd::geteuid().is_root() => "must be owned by the database user or root",
            // Without root the file can't be given away.
            "server-key-of-another" | "server-key-of-root" if !nix::unistd::geteuid().is_root() => {
                assert_eq!(case.outcome.kind(), OutcomeKind::Skipped, "{}: {:?}", case.id, case.outcome);
                continue;
            }
            _ => {
                assert_eq!(case.outcome.kind(), OutcomeKind::Pass, "{}: {:?}", case.id, case.outcome);
                continue;
            }
        };
        let Outcome::Errored { kind, text } = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert_eq!(*kind, ErrorKind::Configure, "{text}");
        assert!(text.contains(refused), "{refused:?} is in: {text}");
    }
}

#[test]
fn a_server_that_does_not_start_can_be_expected_by_its_words_and_one_that_starts_is_a_failure() {
    let Some(build) = newest_postgres() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let postgres = |id: &str, server: &str, expect: &str| (id.to_owned(), scenario(id, "postgres", server, expect));
    let redis = |id: &str, server: &str, expect: &str| (id.to_owned(), scenario(id, "redis", server, expect));
    let files = [
        ("bug/server-key".to_owned(), HANDED.to_owned()),
        // Whatever the configuration is refused for.
        postgres("keys/rule", "pg_hba: [\"hostss all all 0.0.0.0/0 cert\"]", "objection: [invalid connection type, hostss]"),
        postgres("keys/range", "pg_hba: [\"hostssl all all 10.0.0.0/99 cert\"]", "objection: [invalid CIDR mask]"),
        postgres("keys/value", "settings: {ssl_min_protocol_version: TLSv9}", "objection: [invalid value for parameter]"),
        redis("keys/no-ca", "client_ca: none", "objection: tls-ca-cert-file"),
        // A server that starts.
        postgres("keys/starts", "certificate: server-key-0600", "objection: private key file"),
        // Other words, and nothing of a start that is expected.
        postgres("keys/words", "certificate: server-key-0644", "objection: [private key file, key values mismatch]"),
        postgres("keys/known", "certificate: server-key-0644", "session: {tls: true}"),
    ];
    write(directory.path(), "checks/credentials.yaml", CREDENTIALS);
    for (id, text) in &files {
        write(directory.path(), &format!("checks/{id}.yaml"), text);
    }
    let known = "deviations:\n  - id: key-open\n    cases: [\"keys/known:*\"]\n    observed: {objection: has group or world access}\n    \
                 refutes: []\n    summary: It does not start.\n    reason: Its key is open.\n    reference: none\n    review: 2099-01-01\n";
    write(directory.path(), "checks/deviations.yaml", known);
    let args = ["run", "keys/*", "bug/*", "--scenarios", "checks", "--postgres", &build.major.to_string()];
    let run = ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT[..]].concat()));
    let of = |id: &str| -> Vec<&CaseRecord> { run.report.cases.iter().filter(|case| case.scenario == id).collect() };
    for id in ["bug/server-key", "keys/rule", "keys/range", "keys/value", "keys/no-ca"] {
        assert!(!of(id).is_empty(), "{id}: {}", run.said);
        for case in of(id) {
            match &case.outcome {
                Outcome::Pass => assert!(case.control.as_deref().is_some_and(|control| control.contains("own configuration")), "{case:?}"),
                Outcome::Skipped(SkipReason::MachineLacks(_) | SkipReason::DriverMissing(_) | SkipReason::ServerMissing(_)) => {}
                other => panic!("{}: {other:?}\n{}", case.id, run.said),
            }
        }
    }
    let failed = |id: &str| match &of(id)[..] {
        [case] => match &case.outcome {
            Outcome::Fail(mismatches) => {
                mismatches.iter().map(|mismatch| (mismatch.witness, mismatch.observed.clone())).collect::<Vec<_>>()
            }
            other => panic!("{id}: {other:?}"),
        },
        cases => panic!("{id}: {cases:?}"),
    };
    assert_eq!(failed("keys/starts"), [(Witness::Server, "it started, and the client saw a TLS session".to_owned())]);
    let [(Witness::ServerLog, said)] = &failed("keys/words")[..] else { panic!("{:?}", failed("keys/words")) };
    assert!(said.contains("has group or world access"), "{said}");
    assert_eq!(of("keys/known")[0].outcome, Outcome::Deviates { deviation: "key-open".to_owned() });
    assert_eq!(run.code, 1, "{}", run.said);
}

#[test]
fn a_server_key_that_the_harness_cannot_give_away_skips_its_cases() {
    let Some(build) = newest_postgres() else { return };
    if !can_be_another() {
        return;
    }
    let nobody = RunAs::alone(NOBODY);
    let bin = toolchain().postgres(build.major).expect("it is there").bin.clone();
    let reachable = |path: &std::path::Path| os::tree::reachable(path.parent().unwrap_or(path), &nobody);
    if !reachable(binary()) || !reachable(&bin) {
        return skipped("another user can't reach the harness or PostgreSQL");
    }
    let directory = open_directory();
    write(directory.path(), "checks/credentials.yaml", CREDENTIALS);
    write(directory.path(), "checks/keys/server.yaml", UNEXPECTED);
    write(directory.path(), "checks/bug/server-key.yaml", HANDED);
    let (scenarios, manifests) = (repository().join("scenarios"), repository().join("kind/deployment"));
    let (scenarios, manifests) = (scenarios.display().to_string(), manifests.display().to_string());
    let major = build.major.to_string();
    let args = ["run", "keys/server", "bug/server-key", "--scenarios", "checks", "--scenarios", &scenarios, "--only-given-scenarios"];
    let more = ["--postgres", &major, "--driver", "rustls", "--manifests", &manifests, "--cache", "cache"];
    let mut command = harness(directory.path(), &[&args[..], &more, &REPORT].concat());
    os::tree::give(directory.path(), Some(&nobody)).expect("root gives away");
    command.uid(nobody.uid).gid(nobody.gid);
    let run = ran(directory.path(), command);
    assert_eq!(run.report.cases.len(), 6, "{}", run.said);
    for case in &run.report.cases {
        let owner = match case.values["certificate"].as_str() {
            "server-key-of-another" => "another user",
            "server-key-of-root" => "root",
            _ => {
                assert!(!matches!(case.outcome, Outcome::Skipped(_)), "{}: {:?}", case.id, case.outcome);
                continue;
            }
        };
        let Outcome::Skipped(SkipReason::MachineLacks(reason)) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        let expected = format!(
            "the server's server.key is to belong to {owner}, and only a harness that root runs can give a file away: user {NOBODY} runs \
             this one"
        );
        assert_eq!(*reason, expected, "{}", case.id);
    }
}
