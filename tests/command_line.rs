//! What the command line says of itself, of options that match nothing, and of output that nobody reads.

use crate::support::{harness, harness_says};

#[test]
fn a_closed_standard_output_ends_quietly_with_0() {
    let directory = tempfile::tempdir().expect("a directory");
    for args in [&["list"][..], &["list", "--cases"], &["claims"], &["schema", "report"], &["doctor"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = harness(directory.path(), args).stdout(writer).output().expect("the harness runs");
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("error") && !said.contains("pipe"), "{args:?}: {said}");
    }
}

#[test]
fn a_closed_standard_output_changes_no_verdict_of_a_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().display().to_string();
    let skipped = ["run", "postgres/unset", "--driver", "libpq-psycopg2-2.9.10", "--toolchain", &empty, "--report", "json=-"];
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = harness(directory.path(), &skipped).stdout(writer).output().expect("the harness runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(!said.contains("error:"), "{said}");
}

#[test]
fn a_missing_program_of_exec_driver_is_bad_usage_and_says_what_was_tried() {
    let directory = tempfile::tempdir().expect("a directory");
    let (code, _, stderr) = harness_says(directory.path(), &["run", "postgres/unset", "--driver", "my", "--exec-driver", "my=./nope"]);
    assert_eq!(code, 2, "{stderr}");
    assert!(stderr.contains("error: --exec-driver my=./nope: could not look at ") && stderr.contains("/nope: No such file"), "{stderr}");
}

#[test]
fn help_names_the_variable_of_the_cache_and_doctor_the_folder() {
    let directory = tempfile::tempdir().expect("a directory");
    for command in ["run", "claims", "doctor"] {
        let (_, stdout, _) = harness_says(directory.path(), &[command, "--help"]);
        assert!(stdout.contains("MTLS_CONFORMANCE_CACHE"), "{command}: {stdout}");
    }
    let (_, stdout, _) = harness_says(directory.path(), &["doctor", "--cache", "/the/cache"]);
    assert!(stdout.contains("cache directory: /the/cache\n"), "{stdout}");
}

#[test]
fn filters_that_match_nothing_are_named_and_end_with_4() {
    let directory = tempfile::tempdir().expect("a directory");
    let table: &[(&[&str], &str)] = &[
        (&["nosuch"], "error: `nosuch` matches no scenario and no case: `mtls-conformance list` shows the "),
        (&["postgres/unst"], "did you mean `postgres/unset`?"),
        (&["postgres/*", "--postgres", "99"], "error: `--postgres 99` matches no case: there are 15, 16, 17, 18"),
        (&["postgres/unset", "--driver", "libpg-18"], "error: `--driver libpg-18` matches no case: did you mean `libpq-18`?"),
        (&["postgres/unset", "--driver", "redis-py"], "error: `--driver redis-py` leaves none of the "),
        (&["postgres/unset", "--partition", "9999/9999"], "error: `--partition 9999/9999` leaves none of the "),
    ];
    // Both commands select alike; each takes a while to load all scenarios.
    for (command, table) in [("list", table), ("run", &table[..1])] {
        for (args, expected) in table {
            let (code, stdout, stderr) = harness_says(directory.path(), &[&[command], *args].concat());
            assert_eq!(code, 4, "{command} {args:?}: {stderr}");
            assert!(stderr.starts_with("error: no case matches\n") && stderr.contains(expected), "{command} {args:?}: {stderr}");
            assert_eq!(stdout, "", "{args:?}");
        }
    }
    let (code, stdout, stderr) = harness_says(directory.path(), &["list", "nosuch", "postgres/unset"]);
    assert_eq!((code, stdout.lines().count()), (0, 1), "{stderr}");
    assert!(stderr.starts_with("warning: `nosuch` matches no scenario and no case"), "{stderr}");
}
