//! What the command line says of itself, of options that match nothing, and of output that nobody reads.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::{TRUSTS_AND_FAILS, binary, harness, harness_says, in_mount_namespace, newest_postgres, repository, write};

/// Two streams that nobody reads: a pipe whose other end is closed, and none at all.
fn unread(command: &mut Command, stdout: bool, stderr: bool) {
    for (is_closed, is_stdout) in [(stdout, true), (stderr, false)] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        match (is_closed, is_stdout) {
            (false, _) => {}
            (true, true) => drop(command.stdout(writer)),
            (true, false) => drop(command.stderr(writer)),
        }
    }
}

#[test]
fn what_nobody_reads_changes_no_exit_code_of_any_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().display().to_string();
    let (has_postgres, skipped) = (newest_postgres().is_some(), ["run", "postgres/unset", "--driver", "libpq-psycopg2-2.9.10"]);
    let table: &[(&[&str], i32)] = &[
        (&["list"], 0),
        (&["list", "--cases"], 0),
        (&["list", "nosuch"], 4),
        (&["claims"], 0),
        (&["claims", "--report", "nosuch"], 2),
        (&["schema", "report"], 0),
        (&["schema", "report", "--markdown"], 0),
        (&["doctor"], if has_postgres { 0 } else { 3 }),
        (&["--help"], 0),
        (&["run", "--help"], 0),
        (&["--version"], 0),
        (&["nosuch"], 2),
        (&[&skipped[..], &["--toolchain", &empty, "--report", "json=-"]].concat(), 4),
    ];
    for (args, code) in table {
        for (stdout, stderr) in [(true, false), (false, true), (true, true)] {
            let mut command = harness(directory.path(), args);
            unread(&mut command, stdout, stderr);
            let output = command.output().expect("the harness runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(*code), "{args:?}, stdout closed: {stdout}, stderr closed: {stderr}: {said}");
            assert!(!said.contains("pipe"), "{args:?}: {said}");
        }
    }
}

#[test]
fn a_run_has_its_exit_code_whoever_stops_reading() {
    let Some(build) = newest_postgres() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/own/trust.yaml", TRUSTS_AND_FAILS);
    let major = build.major.to_string();
    let wrong = ["run", "own/trust", "--scenarios", "checks", "--postgres", &major, "--report", "json=-", "--report", "markdown=m"];
    let program = binary().display().to_string();
    for script in [
        "\"$@\" | head -1",
        "\"$@\" 2>&1 | head -1",
        "\"$@\" >&- | head -1",
        "\"$@\" 2>&- | head -1",
        "\"$@\" >&- 2>&-",
        "\"$@\" <&- >&- 2>&-",
    ] {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("set -o pipefail; {script}"), "bash", &program]).args(wrong).current_dir(directory.path());
        let output = command.output().expect("bash");
        assert_eq!(output.status.code(), Some(1), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(directory.path().join("m").is_file(), "{script}: the other report is written");
        fs::remove_file(directory.path().join("m")).expect("there");
    }
}

#[test]
fn doctor_tells_by_its_exit_code_that_there_is_no_server_whoever_stops_reading() {
    let directory = tempfile::tempdir().expect("a directory");
    // No server of the distribution's, and nothing on the PATH.
    let mounts =
        format!("mkdir -p /usr/lib/postgresql && mount -t tmpfs tmpfs /usr/lib/postgresql && export PATH={}", directory.path().display());
    for (stdout, stderr) in [(false, false), (true, false), (true, true)] {
        let inner = harness(directory.path(), &["doctor", "--toolchain", "nowhere"]);
        let Some(mut command) = in_mount_namespace(&mounts, directory.path(), &inner) else { return };
        unread(&mut command, stdout, stderr);
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{stdout} {stderr}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn doctor_gives_the_working_directory_to_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let owner = || {
        let status = fs::metadata(directory.path()).expect("there");
        (status.uid(), status.gid(), status.mode())
    };
    let before = owner();
    harness_says(directory.path(), &["doctor"]);
    assert_eq!(owner(), before);
    assert_eq!(fs::read_dir(directory.path()).expect("there").flatten().filter(|entry| entry.file_name() != ".cache").count(), 0);
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
    for (command, args) in [("list", ["nosuch", "postgres/unset"]), ("run", ["postgres/unset", "nosuch"])] {
        let (code, stdout, stderr) = harness_says(directory.path(), &[&[command], args.as_slice()].concat());
        assert_eq!((code, stdout.as_str()), (4, ""), "{stderr}");
        assert!(stderr.starts_with("error: not every filter matches a case\nerror: `nosuch` matches no scenario and no case"), "{stderr}");
    }
}

/// A set of one scenario, which is enough for a plan, and files that are wrong.
fn write_files(directory: &Path) {
    let write = |file: &str, text: &str| fs::write(directory.join(file), text).expect("writes");
    for folder in ["set", "set/mine", "broken", "empty"] {
        fs::create_dir(directory.join(folder)).expect("makes");
    }
    let claims = "claims:\n  - {id: a.b, statement: One., document: guide.md, section: Rules, subject: [postgres]}\n";
    write("set/claims.yaml", claims);
    write("broken/claims.yaml", &claims.replace("statement", "statment").replace("postgres", "mysql"));
    write(
        "set/mine/plain.yaml",
        "id: mine/plain\ntitle: One\nclaims: [a.b]\ndeployment: documented\npostgres: [17, 18]\nmatrix:\n  driver: [libpq-17, rustls]\n\
         steps:\n  - connect: {user: app, identity: none, trust: none}\n    expect:\n      - session: {tls: false}\n",
    );
    write("plain-file", "not a program, a folder, a report or Python (\n");
    write("other.json", "{\"schema_version\": 2}");
}

/// What the binary says on standard error to these arguments, behind them and its exit code. None of them may start anything.
fn said(directory: &Path, args: &str, variable: Option<(&str, &str)>) -> String {
    let words: Vec<&str> = args.split(' ').collect();
    let mut command = harness(directory, &words);
    command.env("PATH", "/bin").envs(variable);
    let output = command.output().expect("the harness runs");
    assert!(output.stdout.is_empty(), "{args}: {}", String::from_utf8_lossy(&output.stdout));
    let stderr = String::from_utf8_lossy(&output.stderr).replace(&directory.display().to_string(), "DIR");
    let variable = variable.map(|(name, value)| format!("{name}={value} ")).unwrap_or_default();
    format!("$ {variable}mtls-conformance {args}\n{stderr}exit code {}\n", output.status.code().expect("a code"))
}

fn assert_snapshot(name: &str, texts: &[String]) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(repository().join("tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, texts.join("\n")));
}

#[test]
fn options_that_can_not_be_read_say_what_they_take() {
    let directory = tempfile::tempdir().expect("a directory");
    let texts = [
        "rum",
        "run --no-such-option",
        "run --repeat 0",
        "run --jobs many",
        "run --timeout 0",
        "run --postgres 17.2",
        "run --partition 5/4",
        "run --deployment cnp",
        "run --report report.json",
        "run --report html=report.html",
        "run --image postgres:17",
        "run --image postgres=postgres:17",
        "run --exec-driver mine",
        "run --only-given-scenarios",
        "schema scenarios",
    ]
    .map(|args| said(directory.path(), args, None));
    assert_snapshot("options_that_can_not_be_read", &texts);
}

#[test]
fn what_can_not_be_followed_is_refused_before_a_run_with_what_was_found_and_what_to_do() {
    let directory = tempfile::tempdir().expect("a directory");
    write_files(directory.path());
    let set = "--only-given-scenarios --scenarios set";
    let run = format!("run {set}");
    let mut texts = Vec::new();
    let mut say = |args: &str| texts.push(said(directory.path(), args, None));
    say("list --only-given-scenarios --scenarios nowhere");
    say("list --only-given-scenarios --scenarios empty");
    say("list --only-given-scenarios --scenarios broken");
    say(&format!("list {set} mine/plane"));
    say(&format!("list {set} mine/{{"));
    say(&format!("{run} --postgres 16 --driver rustl"));
    say(&format!("{run} mine/plain:*rustls* --driver libpq-17"));
    say(&format!("{run} --report json=plain-file/x"));
    say(&format!("{run} --report json=x --report junit=x"));
    say(&format!("{run} --manifests nowhere"));
    say(&format!("{run} --manifests empty"));
    say(&format!("{run} --images nowhere.yaml"));
    say(&format!("{run} --image-set mine"));
    say(&format!("{run} --exec-driver mine=./nowhere"));
    say(&format!("{run} --exec-driver mine=./plain-file"));
    say(&format!("{run} --exec-driver mine=plain-file"));
    say(&format!("{run} --nautobot-config nowhere.py"));
    say(&format!("claims {set} --report nowhere.json"));
    say(&format!("claims {set} --report plain-file"));
    say(&format!("claims {set} --report other.json"));
    texts.push(said(directory.path(), &run, Some(("MTLS_CONFORMANCE_IMAGE_REDIS", "redis:"))));
    texts.push(said(directory.path(), &run, Some(("MTLS_CONFORMANCE_IMAGE_MYSQL", "mysql:8"))));
    assert_snapshot("what_can_not_be_followed", &texts);
}
