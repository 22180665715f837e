//! Where a run's directory goes: a run on a machine with little space in memory passes, or says in one message what it lacks.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::support::{harness, in_mount_namespace, newest_postgres};

/// Docker's default.
const DOCKERS: &str = "mount -t tmpfs -o size=64m tmpfs /dev/shm";

/// Cases on every version and both deployments: more servers than 64 MB take.
const RUN: [&str; 4] = ["run", "postgres/documented-rule:*sslmode=verify-full*", "--driver", "rustls"];

/// A directory that servers can reach.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).expect("chmod");
    place
}

/// Exit code and what was said.
fn said(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("it runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_run_passes_where_shared_memory_has_64_mb_and_says_where_it_went() {
    if newest_postgres().is_none() {
        return;
    }
    let (directory, temporary) = (tempfile::tempdir().expect("a directory"), place());
    let Some(mut command) = in_mount_namespace(DOCKERS, directory.path(), &harness(directory.path(), &RUN)) else { return };
    command.env("TMPDIR", temporary.path());
    let (code, said) = said(command);
    assert_eq!(code, Some(0), "{said}");
    let place = format!("its directory is {}/mtls-conformance-", temporary.path().display());
    assert_eq!(said.matches("/dev/shm has 64 MB free").count(), 1, "{said}");
    assert_eq!(said.matches(&place).count(), 1, "{said}");
    assert_eq!(std::fs::read_dir(temporary.path()).expect("there").count(), 0, "nothing is left");
}

#[test]
fn a_run_without_room_ends_at_once_with_one_message_that_names_the_way_out() {
    if newest_postgres().is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let small = place();
    let small = small.path();
    let mounts = format!("{DOCKERS} && mount -t tmpfs -o size=8m tmpfs {}", small.display());
    let Some(mut command) = in_mount_namespace(&mounts, directory.path(), &harness(directory.path(), &RUN)) else { return };
    command.env("TMPDIR", small);
    let (code, said) = said(command);
    assert_eq!((code, said.lines().count()), (Some(3), 1), "{said}");
    for word in ["/dev/shm has 64 MB free", &format!("{} has 8 MB free", small.display()), "--run-dir", "MTLS_CONFORMANCE_RUN_DIR"] {
        assert!(said.contains(word), "{word:?} is in: {said}");
    }
}

#[test]
fn the_directory_that_is_named_is_taken_or_refused() {
    if newest_postgres().is_none() {
        return;
    }
    let (directory, place) = (tempfile::tempdir().expect("a directory"), place());
    let named = place.path().display().to_string();
    let args = |named: &str, more: &[&str]| -> Vec<String> {
        RUN.iter().chain(&["--postgres", "17,18", "--run-dir", named]).chain(more).map(|word| (*word).to_owned()).collect()
    };
    // A server that does not start in time names its log.
    let words = args(&named, &["--evidence", "/dev/null/none", "--start-timeout", "0.001"]);
    let (_, told) = said(harness(directory.path(), &words.iter().map(String::as_str).collect::<Vec<_>>()));
    assert!(told.contains(&format!("{named}/mtls-conformance-")), "{told}");
    assert_eq!(std::fs::read_dir(place.path()).expect("there").count(), 0, "nothing is left");
    let words = args("/nonexistent", &[]);
    let (code, told) = said(harness(directory.path(), &words.iter().map(String::as_str).collect::<Vec<_>>()));
    assert_eq!((code, told.lines().count()), (Some(3), 1), "{told}");
    assert!(told.contains("--run-dir") && told.contains("/nonexistent can't be used (No such file or directory"), "{told}");
}
