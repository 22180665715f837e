//! Another user of the machine, while a server trusts everybody: he gets a session, and nothing else.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use os::tree::processes_in;
use os::user::RunAs;

use crate::support::{NOBODY, Running, TRUSTS_AND_FAILS, can_be_another, harness, newest_postgres, open_directory, skipped, write};

/// Runs a program as another user, who is in no group of ours.
fn as_another(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).env("LANG", "C").env("LC_ALL", "C").env_remove("PGPASSWORD").uid(NOBODY).gid(NOBODY).current_dir("/");
    command.output().expect("it runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before:?} is in: {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("{after:?} is in: {rest}")).0
}

/// Another user who is trusted at this address gets a session, and is no superuser, whoever he says to be.
fn assert_no_power(address: &str) {
    let ask = |user: &str, statement: &str| {
        let target = format!("{address} user={user} dbname=postgres sslmode=disable");
        let output = as_another("psql", &["--no-psqlrc", "--no-password", "--tuples-only", "--no-align", &target, "--command", statement]);
        (output.status.success(), text(&output))
    };
    assert_eq!(ask("postgres", "SHOW is_superuser"), (true, "off\n".to_owned()), "everybody is trusted, and no superuser");
    let (gets_in, answer) = ask("postgres", "COPY (SELECT 1) TO PROGRAM 'cat'");
    assert!(!gets_in && answer.contains("permission denied"), "{answer}");
    let (_, superusers) = ask("postgres", "SELECT rolname FROM pg_roles WHERE rolsuper");
    assert!(!superusers.trim().is_empty(), "somebody owns the tables of the system");
    for superuser in superusers.lines() {
        let (gets_in, answer) = ask(superuser, "SELECT 1");
        assert!(!gets_in && answer.contains("not permitted to log in"), "{superuser}: {answer}");
    }
}

/// The files below a directory that another user can read, going by what he himself sees.
fn readable(directory: &Path) -> Vec<String> {
    let path = directory.display().to_string();
    let found = as_another("find", &[&path, "-type", "f", "-readable"]);
    String::from_utf8_lossy(&found.stdout).lines().map(str::to_owned).collect()
}

/// Whether a test can be another user who has psql; says why not.
fn can_be_another_with_psql() -> bool {
    if !can_be_another() {
        return false;
    }
    let has_psql = Command::new("psql").arg("--version").output().is_ok();
    if !has_psql {
        skipped("psql is not installed");
    }
    has_psql
}

#[test]
fn under_trust_another_user_gets_a_session_but_no_power_and_no_file() {
    let Some(build) = newest_postgres() else { return };
    if !can_be_another_with_psql() {
        return;
    }
    // As a checkout is: what is in it decides.
    let directory = open_directory();
    write(directory.path(), "checks/own/trust.yaml", TRUSTS_AND_FAILS);
    let major = build.major.to_string();
    let args = ["run", "own/trust", "--scenarios", "checks", "--postgres", &major, "--cache", "cache", "--hold", "on-failure"];
    let mut run = Running::start(harness(directory.path(), &args));
    run.wait_for_texts(&["holding the servers", "(log "]);
    let said = run.said();
    let run_directory = Path::new(between(&said, "credentials are in ", "\n")).parent().expect("the run's directory");
    let port = between(&said, "-documented: 127.0.0.1:", ",");
    let log = between(&said, "(log ", ")");

    assert_no_power(&format!("host=127.0.0.1 port={port}"));
    let seen = as_another("ls", &[&run_directory.display().to_string()]);
    assert!(text(&seen).contains("Permission denied"), "{}", text(&seen));
    let seen = as_another("cat", &[log]);
    assert!(text(&seen).contains("Permission denied"), "{}", text(&seen));
    assert!(std::fs::metadata(log).is_ok_and(|status| status.len() > 0), "there is something to read");
    for closed in ["cache", "reports/evidence"] {
        let closed = directory.path().join(closed);
        assert!(closed.is_dir(), "{}: {said}", closed.display());
        assert_eq!(readable(&closed), [""; 0]);
    }
    assert!(!readable(directory.path()).is_empty(), "files that are for all are seen");

    // What serves runs as nobody that the machine knows.
    let users: Vec<u32> = processes_in(run_directory).into_iter().filter(|pid| is_postgres(*pid)).map(user_of).collect();
    assert!(!users.is_empty() && users.iter().all(|user| *user == users[0]), "{users:?}");
    let named = nix::unistd::User::from_uid(users[0].into()).expect("it is looked up");
    assert_eq!(named.map(|user| user.uid.as_raw()), RunAs::unprivileged().map(|user| user.uid).filter(|uid| *uid == users[0]));

    kill(Pid::from_raw(run.pid()), Signal::SIGINT).expect("it is there");
    assert_eq!(run.wait().code(), Some(1), "{}", run.said());
}

fn is_postgres(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres")
}

fn user_of(pid: i32) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{pid}")).expect("it runs"))
}

/// Containers can be reached from the machine that they are on.
#[cfg(feature = "container")]
#[test]
fn under_trust_another_user_has_no_power_over_a_server_in_a_container() {
    use crate::containers::{CONTAINERS, IMAGES, Outside};
    if !can_be_another_with_psql() {
        return;
    }
    let Some(_outside) = Outside::here(&IMAGES) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/own/trust.yaml", TRUSTS_AND_FAILS);
    let args = ["run", "own/trust", "--scenarios", "checks", "--postgres", "17", "--hold", "on-failure"];
    let mut run = Running::start(harness(directory.path(), &[&args[..], &CONTAINERS].concat()));
    run.wait_for_texts(&["holding the servers", "(log "]);
    let said = run.said();
    let (host, port) = between(&said, "-documented: ", ", as it was").rsplit_once(':').expect("an address");
    assert_no_power(&format!("host={host} port={port}"));
    kill(Pid::from_raw(run.pid()), Signal::SIGINT).expect("it is there");
    assert_eq!(run.wait().code(), Some(1), "{}", run.said());
}
