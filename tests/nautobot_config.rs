//! A user's own `nautobot_config.py` in place of ours.

use std::path::Path;
use std::process::Output;

use model::observation::ClientOutcome;
use model::outcome::{Outcome, SkipReason};
use model::refusal::{ConfigRefusal, Refusal, Stage};
use model::report::{CaseRecord, Report};

use crate::support::{REPORT, Ran, harness, ran, repository, skipped, toolchain, write};

/// Runs one case with this file; `None` where something that it needs is not installed.
fn run(directory: &Path, config: &str, case: &str) -> Option<Output> {
    let toolchain = toolchain();
    if toolchain.python("nautobot-django").is_none() || toolchain.postgres(15).is_none() {
        skipped("Django or PostgreSQL 15 is not installed; `make setup` brings them");
        return None;
    }
    std::fs::write(directory.join("own.py"), config).expect("writes");
    let args = ["run", "--nautobot-config", "own.py", "--report", "json=report.json", case];
    Some(harness(directory, &args).output().expect("the harness runs"))
}

fn case(directory: &Path, output: &Output) -> CaseRecord {
    let said = String::from_utf8_lossy(&output.stderr);
    let report = std::fs::read(directory.join("report.json")).unwrap_or_else(|error| panic!("{error}\n{said}"));
    let mut report: Report = serde_json::from_slice(&report).expect("a report");
    assert_eq!(report.cases.len(), 1, "{said}");
    report.cases.remove(0)
}

/// Scenarios that leave everything about TLS to the file; they expect no settings, whose paths differ from file to file.
const SCENARIOS: &str = "\
id: own/postgres
title: A session as the file sets it up
claims: []
deployment: documented
postgres: [15]
matrix: {driver: [nautobot-django]}
steps:
  - connect: {env: {NAUTOBOT_DB_SSLMODE: verify-full}}
    expect: [{session: {tls: true, user: app, client_dn: /CN=app}}]
---
id: own/redis
title: The same for Redis
claims: []
service: redis
deployment: documented
matrix: {driver: [nautobot-redis, nautobot-kombu]}
steps:
  - connect: {env: {NAUTOBOT_REDIS_SSL: \"true\"}}
    expect: [{session: {tls: true, server_certificate: redis-server}}]
";

/// Runs those with this file and these further arguments; `None` where something that it needs is not installed.
fn run_own(config: &str, select: &str, more: &[&str]) -> Option<Ran> {
    let scenarios: Vec<(&str, &str)> = ["postgres", "redis"].into_iter().zip(SCENARIOS.split("---\n")).collect();
    run_scenarios(config, &scenarios, select, more)
}

/// The same with these scenarios, by file.
fn run_scenarios(config: &str, scenarios: &[(&str, &str)], select: &str, more: &[&str]) -> Option<Ran> {
    let toolchain = toolchain();
    if toolchain.python("nautobot-django").is_none() || toolchain.postgres(15).is_none() || toolchain.redis.is_none() {
        skipped("Nautobot's clients, PostgreSQL 15 or Redis is not installed; `make setup` brings them");
        return None;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for (file, scenario) in scenarios {
        write(directory.path(), &format!("scenarios/own/{file}.yaml"), scenario);
    }
    write(directory.path(), "own.py", config);
    let args = ["run", "--scenarios", "scenarios", "--nautobot-config", "own.py", select];
    Some(ran(directory.path(), harness(directory.path(), &[&args[..], more, &REPORT[..]].concat())))
}

fn passes(ran: &Ran, count: usize) {
    assert_eq!(ran.code, 0, "{}", ran.said);
    assert!(ran.report.cases.len() == count && ran.report.cases.iter().all(|case| case.outcome == Outcome::Pass), "{}", ran.said);
}

#[test]
fn paths_in_urls_and_in_environment_variables_are_those_of_the_mounted_files() {
    let url = "from nautobot.core.settings import *\nM = '/etc/nautobot/mtls'\n\
               Q = f'?ssl_cert_reqs=required&ssl_ca_certs={M}/ca.crt&ssl_certfile={M}/tls.crt&ssl_keyfile={M}/tls.key'\n\
               CACHES['default']['LOCATION'] += Q\nCELERY_BROKER_URL += Q\n";
    let Some(ran) = run_own(url, "own/redis", &[]) else { return };
    passes(&ran, 2);
    let variables = "import os\nfrom nautobot.core.settings import *\nM = '/etc/nautobot/mtls'\nos.environ.update(PGSSLMODE='verify-full', \
                     PGSSLCERT=f'{M}/tls.crt', PGSSLKEY=f'{M}/tls.key', PGSSLROOTCERT=f'{M}/ca.crt')\n";
    let Some(ran) = run_own(variables, "own/postgres", &[]) else { return };
    passes(&ran, 1);
}

#[test]
fn a_file_that_looks_elsewhere_finds_the_certificates_where_it_is_said_and_only_there() {
    let ours = std::fs::read_to_string(repository().join("harness/clients/nautobot_config.py")).expect("reads");
    let elsewhere = ours.replace("/etc/nautobot/mtls", "/opt/nautobot/certs");
    assert_ne!(ours, elsewhere);
    let Some(ran) = run_own(&elsewhere, "own/*", &["--nautobot-mount", "/opt/nautobot/certs"]) else { return };
    passes(&ran, 3);
    let Some(ran) = run_own(&elsewhere, "nautobot/redis", &["--nautobot-mount", "/opt/nautobot/certs"]) else { return };
    assert_eq!(ran.code, 0, "our own scenarios expect the settings to name it: {}", ran.said);
    assert!(!Path::new("/opt/nautobot").exists(), "nobody else sees the directory");
    let Some(ran) = run_own(&elsewhere, "own/postgres", &["--timeout", "20.5"]) else { return };
    assert_eq!(ran.code, 1, "{}", ran.said);
    assert!(ran.said.contains("/opt/nautobot/certs/tls.crt"), "the path is named as the file knows it: {}", ran.said);
    let repro = &ran.report.cases[0].repro;
    assert!(repro.ends_with("--timeout 20.5"), "{repro}");
}

/// What decides about TLS is the file's: these say it themselves.
const OF_THE_FILE: &str = "\
id: own/redis
title: TLS that the scenario decides
claims: []
service: redis
deployment: documented
matrix: {driver: [nautobot-redis, nautobot-kombu], tls: [no-verify, verify-ca, \"off\"]}
server: {certificate: redis-server-wrong-san}
steps:
  - connect: {tls: \"${tls}\"}
    expect:
      - session: {tls: true}
";

#[test]
fn a_case_that_takes_tls_out_of_the_files_hands_is_skipped_and_not_run_without_it() {
    let config = "from nautobot.core.settings import *\n";
    let Some(ran) = run_scenarios(config, &[("redis", OF_THE_FILE)], "own/redis", &[]) else { return };
    assert_eq!((ran.code, ran.report.cases.len()), (4, 6), "{}", ran.said);
    for case in &ran.report.cases {
        let Outcome::Skipped(SkipReason::DriverUnable(reason)) = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
        assert!(reason.contains("`tls` is for the configuration file to decide"), "{reason}");
    }
}

#[test]
fn a_directory_that_can_not_be_mounted_makes_skips_that_say_so() {
    let config = "from nautobot.core.settings import *\n";
    let Some(ran) = run_own(config, "own/*", &["--nautobot-mount", "/mtls-conformance-has-no-such-folder/certs"]) else { return };
    assert_eq!(ran.report.cases.len(), 3, "{}", ran.said);
    for case in &ran.report.cases {
        let Outcome::Skipped(SkipReason::DriverUnable(reason)) = &case.outcome else { panic!("{:?}", case.outcome) };
        assert!(reason.contains("can't be mounted") && reason.contains("--nautobot-mount"), "{reason}");
    }
}

const VERIFY_CA: &str = "nautobot/sslmode:deployment=documented,postgres=15,driver=nautobot-django,mode=verify-ca";

#[test]
fn a_file_that_is_no_python_ends_before_anything_runs_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(output) = run(directory.path(), "import os\n\nif True\n    pass\n", VERIFY_CA) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("own.py:3: SyntaxError: "), "{said}");
    assert!(!directory.path().join("report.json").exists());
}

#[test]
fn a_file_that_is_not_there_ends_before_anything_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = harness(directory.path(), &["run", "--nautobot-config", "nothing.py", VERIFY_CA]).output().expect("the harness runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("nothing.py: can't be read"), "{said}");
}

#[test]
fn a_file_that_raises_is_a_refusal_before_any_connection_with_the_line_that_raised() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "import os\nfrom nautobot.core.settings import *\nTOKEN = os.environ['NAUTOBOT_TOKEN_OF_OURS']\n";
    let Some(output) = run(directory.path(), config, VERIFY_CA) else { return };
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let case = case(directory.path(), &output);
    assert!(matches!(case.outcome, Outcome::Fail(_)), "{:?}", case.outcome);
    let observed = case.steps[0].observed.as_ref().expect("observed");
    let ClientOutcome::Refused(refused) = &observed.client.outcome else { panic!("{observed:?}") };
    assert_eq!((refused.refusal, refused.stage), (Refusal::Config(ConfigRefusal::Other), Some(Stage::Options)));
    assert_eq!(refused.text, "KeyError: 'NAUTOBOT_TOKEN_OF_OURS'\n(raised at own.py:3)");
    assert!(observed.wire.as_ref().is_some_and(|wire| wire.connections.is_empty()), "{observed:?}");
}

#[test]
fn a_file_that_presents_no_certificate_fails_by_its_settings_and_by_the_servers_refusal() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "from nautobot.core.settings import *\nDATABASES['default']['OPTIONS'] = {'sslmode': 'verify-ca', 'sslrootcert': \
                  '/etc/nautobot/mtls/ca.crt', 'password': 'secret-of-ours'}\n";
    let Some(output) = run(directory.path(), config, VERIFY_CA) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let case = case(directory.path(), &output);
    let Outcome::Fail(mismatches) = &case.outcome else { panic!("{:?}", case.outcome) };
    let seen: Vec<&str> = mismatches.iter().map(|mismatch| mismatch.what.as_str()).collect();
    assert_eq!(seen, ["outcome", "setting sslcert", "setting sslkey"], "{said}");
    assert!(said.contains("settings  sslmode=verify-ca sslrootcert=/etc/nautobot/mtls/ca.crt"), "{said}");
    let report = std::fs::read_to_string(directory.path().join("report.json")).expect("a report");
    assert!(!report.contains("secret-of-ours") && !said.contains("secret-of-ours"));
    assert!(case.repro.ends_with("--nautobot-config own.py"), "{}", case.repro);
}
