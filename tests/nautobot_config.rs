//! A user's own `nautobot_config.py` in place of ours.

use std::path::Path;
use std::process::Output;

use model::observation::ClientOutcome;
use model::outcome::Outcome;
use model::refusal::{ConfigRefusal, Refusal, Stage};
use model::report::{CaseRecord, Report};

use crate::support::{harness, skipped, toolchain};

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
