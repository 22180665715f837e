//! The key file of a server: PostgreSQL takes none that others can read or that is another user's, and the run says so.

use model::outcome::{ErrorKind, Outcome, OutcomeKind};

use crate::support::{REPORT, harness, newest_postgres, ran, write};

const CREDENTIALS: &str = "\
identities:
  server-key-0600: {certificate: nautobot-cluster-server-tls, key_mode: \"0600\"}
  server-key-0644: {certificate: nautobot-cluster-server-tls, key_mode: \"0644\"}
  server-key-of-another: {certificate: nautobot-cluster-server-tls, key_owned_by_other: true}
";

const SCENARIO: &str = "\
id: keys/server
title: The server's key file, as it is mounted
claims: []
deployment: documented
matrix:
  driver: [rustls]
  certificate: [server-key-0644, server-key-of-another, server-key-0600]
server:
  certificate: ${certificate}
steps:
  - connect: {sslmode: verify-full}
    expect:
      - session: {tls: true}
";

#[test]
fn a_server_key_that_others_can_read_or_another_owns_is_refused_in_postgresqls_words() {
    let Some(build) = newest_postgres() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/credentials.yaml", CREDENTIALS);
    write(directory.path(), "checks/keys/server.yaml", SCENARIO);
    let args = ["run", "keys/server", "--scenarios", "checks", "--postgres", &build.major.to_string()];
    let run = ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT[..]].concat()));
    assert_eq!((run.code, run.report.cases.len()), (3, 3), "{}", run.said);
    for case in &run.report.cases {
        // Without root the file can't be given away, and that is said.
        let refused = match case.id.split("certificate=").nth(1).expect("the axis") {
            "server-key-0600" => {
                assert_eq!(case.outcome.kind(), OutcomeKind::Pass, "{}: {:?}", case.id, case.outcome);
                continue;
            }
            "server-key-0644" => "has group or world access",
            _ if nix::unistd::geteuid().is_root() => "must be owned by the database user or root",
            _ => "not permitted",
        };
        let Outcome::Errored { kind, text } = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert_eq!(*kind, ErrorKind::Configure, "{text}");
        assert!(text.contains(refused), "{refused:?} is in: {text}");
    }
}
