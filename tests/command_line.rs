//! What the command line says of itself, of options that match nothing, and of output that nobody reads.

use std::fs;
use std::path::Path;

use crate::support::{harness, harness_says, repository};

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
