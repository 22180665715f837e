//! A user's own client program that says nothing: the run does not wait longer for it than `--timeout` lets it.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use model::outcome::{ErrorKind, Outcome};
use model::report::Report;

use crate::support::{REPORT, Ran, harness, newest_postgres, open_directory, ran, write};

/// Below what the run would wait for each of the programs where nobody gives a limit, and far above what it takes with the limit.
const SOON: Duration = Duration::from_secs(15);

/// Runs one case with a program of this text as its client, with a limit of two seconds; `None` where there is no PostgreSQL.
fn run(program: &str) -> Option<(Report, Duration)> {
    let newest = newest_postgres()?;
    let directory = open_directory();
    let path = directory.path().join("silent.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{program}")).expect("writes");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
    let scenario = format!(
        "id: own/case\ntitle: A program of one's own\nclaims: []\ndeployment: documented\npostgres: [{}]\nmatrix: {{driver: [silent]}}\n\
         steps:\n  - connect: {{sslmode: verify-full}}\n    expect:\n      - session: {{tls: true}}\n",
        newest.major
    );
    write(directory.path(), "set/own/case.yaml", &scenario);
    let args = ["run", "--scenarios", "set", "own/case", "--exec-driver", "silent=./silent.sh", "--timeout", "2"];
    let args: Vec<&str> = args.into_iter().chain(REPORT).collect();
    let begun = Instant::now();
    let Ran { report, code, said } = ran(directory.path(), harness(directory.path(), &args));
    assert_eq!((code, report.cases.len()), (3, 1), "{said}");
    Some((report, begun.elapsed()))
}

#[test]
fn one_that_never_greets_is_given_up_after_the_limit() {
    let Some((report, took)) = run("trap '' TERM\nwhile :; do sleep 600; done\n") else { return };
    let Outcome::Errored { kind: ErrorKind::Client, text } = &report.cases[0].outcome else { panic!("{:?}", report.cases[0].outcome) };
    assert!(text.contains("no greeting within 2s"), "{text}");
    assert!(took < SOON, "{took:?}");
}

#[test]
fn one_that_greets_and_never_answers_nor_ends_is_given_up_after_the_limit() {
    let hello =
        r#"{"hello":{"protocol":1,"concurrency":1,"driver":{"name":"silent","service":"postgres","family":"other","version":"1"}}}"#;
    let Some((report, took)) = run(&format!("trap '' TERM\necho '{hello}'\nwhile :; do sleep 600; done\n")) else { return };
    let Outcome::TimedOut(text) = &report.cases[0].outcome else { panic!("{:?}", report.cases[0].outcome) };
    assert!(text.contains("no end within 2s"), "{text}");
    assert!(took < SOON, "{took:?}");
}
