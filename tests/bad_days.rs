//! Days on which something is full, gone or asked for twice: reports, the folder of temporary files, standard input, and two runs at a time.

use std::path::Path;
use std::process::{Command, Stdio};

use model::report::Report;

use crate::support::{harness, in_mount_namespace, newest_postgres, write};

/// A session, as the deployment has it.
const SCENARIO: &str = "\
id: own/plain
title: In plaintext
claims: []
deployment: documented
matrix:
  driver: [rustls]
  user: [app, postgres]
server:
  pg_hba: [host all all all trust]
steps:
  - connect: {sslmode: disable, user: \"${user}\"}
    expect:
      - session: {tls: false}
";

/// A directory with the scenario, where there is a PostgreSQL.
fn place() -> Option<tempfile::TempDir> {
    newest_postgres()?;
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/own/plain.yaml", SCENARIO);
    Some(directory)
}

fn run(directory: &Path, more: &[&str]) -> Command {
    let major = newest_postgres().expect("asked for before").major.to_string();
    harness(directory, &[&["run", "own/plain", "--scenarios", "checks", "--postgres", &major], more].concat())
}

/// Exit code and what was said.
fn said(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_full_disk_for_reports_is_told_and_a_verdict_stays() {
    let Some(directory) = place() else { return };
    let full = directory.path().join("full");
    std::fs::create_dir(&full).expect("makes");
    let mounts = format!("mount -t tmpfs -o size=8k tmpfs {}", full.display());
    // A report is longer than that; the other one has room.
    let args = ["--report", "json=full/run.json", "--report", "markdown=summary.md"];
    for (scenario, expected) in [(SCENARIO.to_owned(), 3), (SCENARIO.replace("{tls: false}", "{tls: true}"), 1)] {
        write(directory.path(), "checks/own/plain.yaml", &scenario);
        let Some(command) = in_mount_namespace(&mounts, directory.path(), &run(directory.path(), &args)) else { return };
        let (code, told) = said(command);
        assert_eq!(code, Some(expected), "{told}");
        let lines: Vec<&str> =
            told.lines().filter(|line| line.starts_with("error: the json report could not be written to full/run.json: ")).collect();
        let [line] = lines[..] else { panic!("{told}") };
        assert!(line.contains("No space left on device") && line.ends_with("; `--report json=PATH` names another place"), "{told}");
        assert!(told.contains("\nconformant: 2 cases ran\n") || told.contains("\nnot conformant: 2 of 2 cases failed\n"), "{told}");
        assert!(std::fs::read_to_string(directory.path().join("summary.md")).expect("written").contains("2 cases"));
    }
}

#[test]
fn a_full_folder_of_temporary_files_is_one_message_and_no_report_lacks_cases() {
    let Some(directory) = place() else { return };
    let full = directory.path().join("full");
    std::fs::create_dir(&full).expect("makes");
    let mounts = format!("mount -t tmpfs -o size=4k tmpfs {}", full.display());
    let args = ["--report", "json=run.json", "--repeat", "20"];
    let Some(mut command) = in_mount_namespace(&mounts, directory.path(), &run(directory.path(), &args)) else { return };
    command.env("TMPDIR", &full);
    let (code, told) = said(command);
    assert_eq!(code, Some(3), "{told}");
    let line = format!(
        "the cases could not be kept in {} for the reports: No space left on device (os error 28); TMPDIR names another place\n",
        full.display()
    );
    assert_eq!(told.matches(&format!("error: {line}")).count(), 1, "{told}");
    assert_eq!(told.matches(&format!("error: no report is written, since it would lack cases: {line}")).count(), 1, "{told}");
    assert!(told.contains("\nconformant: 40 cases ran\n") && !directory.path().join("run.json").exists(), "{told}");
}

#[test]
fn a_report_that_is_a_directory_is_refused_before_the_run() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(directory.path().join("reports")).expect("makes");
    let (code, told) = said(harness(directory.path(), &["run", "postgres/unset", "--report", "json=reports"]));
    assert_eq!((code, told.as_str()), (Some(2), "error: the json report could not be written to reports: is a directory\n"));
}

#[test]
fn two_runs_at_a_time_write_whole_reports_to_one_place() {
    let Some(directory) = place() else { return };
    let args = ["--report", "json=run.json", "--report", "junit=junit.xml"];
    let start = || {
        let mut command = run(directory.path(), &args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let runs = [start(), start(), start()];
    for run in runs {
        let output = run.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        let text = std::fs::read(directory.path().join("run.json")).expect("written");
        let report: Report = serde_json::from_slice(&text).expect("whole");
        assert_eq!(report.cases.len(), 2);
    }
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("there")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert_eq!(
        names.into_iter().filter(|name| name != "checks" && !name.starts_with(".cache")).collect::<Vec<_>>(),
        ["junit.xml", "run.json"]
    );
}
