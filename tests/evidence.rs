//! What stays of a case that failed: what the terminal shows of the server, the files in the evidence, and whose evidence goes when.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use model::report::{CaseRecord, Report};

use crate::support::{REPORT, Ran, Running, harness, in_mount_namespace, newest_postgres, ran, skipped, toolchain, write};

/// The user's certificate is good, and the map of this rule doesn't have it.
const USERMAP: &str = "\
id: own/usermap
title: A map without the user
claims: []
deployment: cnpg
matrix:
  driver: [rustls]
server:
  pg_hba: [hostssl all all 0.0.0.0/0 cert map=apps]
steps:
  - connect: {sslmode: verify-full, identity: app}
    expect:
      - session: {tls: true}
";

/// Wrong about a session.
const REDIS: &str = "\
id: own/redis
title: Wrong about TLS
claims: []
service: redis
deployment: documented
matrix:
  driver: [redis-rs]
steps:
  - connect: {}
    expect:
      - session: {tls: false}
";

/// Runs `own/NAME` with more arguments.
fn run(directory: &Path, name: &str, more: &[&str]) -> Command {
    let Some(build) = newest_postgres() else { panic!("asked for before") };
    let (id, major) = (format!("own/{name}"), build.major.to_string());
    let args = ["run", &id, "--scenarios", "checks", "--postgres", &major];
    harness(directory, &[&args[..], &REPORT, more].concat())
}

/// A directory with the scenario of a rule's map, where there is a PostgreSQL.
fn place() -> Option<tempfile::TempDir> {
    newest_postgres()?;
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/own/usermap.yaml", USERMAP);
    Some(directory)
}

/// The case of a run that has one, and where its evidence is.
fn evidence(directory: &Path, report: &Report) -> PathBuf {
    let [CaseRecord { evidence: Some(evidence), evidence_error: None, .. }] = &report.cases[..] else { panic!("{:?}", report.cases) };
    directory.join(evidence)
}

fn read(file: impl AsRef<Path>) -> String {
    let file = file.as_ref();
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The values of a field in lines of JSON whose `key` is `name`.
fn field(lines: &str, key: &str, name: &str, field: &str) -> Vec<String> {
    let rows = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"));
    rows.filter(|row| row[key] == name).map(|row| row[field].as_str().map_or_else(|| row[field].to_string(), str::to_owned)).collect()
}

#[test]
fn a_refusal_is_shown_with_the_servers_last_lines_and_its_evidence_has_rules_and_settings() {
    let Some(directory) = place() else { return };
    let Ran { code, report, said } = ran(directory.path(), run(directory.path(), "usermap", &[]));
    assert_eq!(code, 1, "{said}");
    for line in [
        "  server    LOG: no match in usermap \"apps\" for user \"app\" authenticated as \"app\"",
        "  server    FATAL 28000: certificate authentication failed for user \"app\"",
        "            DETAIL: Connection matched file \"",
        ": \"hostssl all all 0.0.0.0/0 cert map=apps\"",
    ] {
        assert!(said.contains(line), "{line:?} is in: {said}");
    }
    let evidence = evidence(directory.path(), &report);
    assert!(read(evidence.join("pg_hba.conf")).contains("hostssl all all 0.0.0.0/0 cert map=apps"));
    assert!(read(evidence.join("pg_ident.conf")).contains("cnpg_streaming_replica streaming_replica streaming_replica"));
    assert!(read(evidence.join("server.log")).contains("certificate authentication failed"));
    let settings = read(evidence.join("pg_settings.jsonl"));
    assert_eq!(field(&settings, "name", "ssl", "setting"), ["on"], "{settings}");
    assert_eq!(field(&settings, "name", "ssl_ca_file", "source"), ["configuration file"]);
    assert!(field(&settings, "name", "ssl_ca_file", "sourcefile")[0].ends_with("/postgresql.conf"), "{settings}");
    let rules = read(evidence.join("pg_hba_file_rules.jsonl"));
    let options = field(&rules, "type", "hostssl", "options");
    assert!(options.iter().any(|options| options.contains("\"map=apps\"")), "{rules}");
    let mappings = read(evidence.join("pg_ident_file_mappings.jsonl"));
    assert_eq!(field(&mappings, "map_name", "cnpg_streaming_replica", "sys_name"), ["streaming_replica"], "{mappings}");
}

#[test]
fn a_control_that_is_refused_is_told_with_the_servers_last_lines() {
    let Some(directory) = place() else { return };
    let refused = USERMAP.replace("steps:", "control:\n  - connect: {identity: app}\nsteps:").replace(
        "identity: app}\n    expect:\n      - session: {tls: true}",
        "identity: none}\n    expect:\n      - refused: {auth: client-certificate-required}",
    );
    write(directory.path(), "checks/own/usermap.yaml", &refused);
    let Ran { code, said, .. } = ran(directory.path(), run(directory.path(), "usermap", &[]));
    assert_eq!(code, 3, "{said}");
    let line = "the server's log: FATAL: certificate authentication failed for user \"app\" (Connection matched file ";
    assert!(said.contains("its positive control failed") && said.contains(line), "{said}");
}

#[test]
fn the_evidence_of_redis_and_of_a_gateway_has_their_configuration_and_no_password() {
    let toolchain = toolchain();
    if newest_postgres().is_none() || toolchain.redis.is_none() || toolchain.haproxy.is_none() {
        return skipped("Redis or HAProxy is not installed");
    }
    let directory = tempfile::tempdir().expect("a directory");
    write(directory.path(), "checks/own/redis.yaml", REDIS);
    let through = REDIS.replace("own/redis", "own/through").replace("connect: {}", "connect: {via: gateway}");
    write(directory.path(), "checks/own/through.yaml", &through);
    let Ran { report, .. } = ran(directory.path(), run(directory.path(), "redis", &[]));
    let straight = evidence(directory.path(), &report);
    let started = read(straight.join("redis.conf"));
    assert!(started.contains("tls-auth-clients") && !started.contains("requirepass"), "{started}");
    let settings = read(straight.join("redis-settings.conf"));
    for line in ["tls-auth-clients yes\n", "port 0\n", "\ntls-port ", "\nbind "] {
        assert!(settings.contains(line), "{line:?} is in: {settings}");
    }
    let Ran { report, .. } = ran(directory.path(), run(directory.path(), "through", &[]));
    let through = evidence(directory.path(), &report);
    assert!(read(through.join("haproxy.cfg")).contains("req.ssl_sni"));
    assert!(!straight.exists(), "it was the run before's");
}

#[test]
fn a_timelines_evidence_has_its_replica_and_says_what_could_not_be_asked() {
    let Some(directory) = place() else { return };
    let timeline = "\
id: own/usermap
title: A replica, and a primary that is stopped
claims: []
deployment: cnpg
matrix:
  driver: [rustls]
timeline:
  with: [replica]
  clients:
    new: {kind: new, connect: {sslmode: verify-full}}
  phases:
    - title: before
      expect:
        - clients: {new: ok}
    - title: the primary is away
      do:
        - stop: postgres
      expect:
        - clients: {new: ok}
";
    write(directory.path(), "checks/own/usermap.yaml", timeline);
    let Ran { report, said, .. } = ran(directory.path(), run(directory.path(), "usermap", &[]));
    let [CaseRecord { evidence: Some(evidence), .. }] = &report.cases[..] else { panic!("{said}") };
    let evidence = directory.path().join(evidence);
    assert!(read(evidence.join("not-asked.txt")).contains("could not be asked for its settings and rules: its unix socket"), "{said}");
    assert!(read(evidence.join("pg_hba.conf")).contains("hostssl"));
    assert!(read(evidence.join("replica-override.conf")).contains("primary_conninfo"));
    assert!(read(evidence.join("replica-pg_settings.jsonl")).contains("primary_conninfo"));
}

#[test]
fn evidence_that_can_not_be_written_is_told_and_hides_no_verdict() {
    let Some(directory) = place() else { return };
    let full = directory.path().join("full");
    std::fs::create_dir(&full).expect("makes");
    let kept = full.display().to_string();
    // A page for the run's directory, one for the case's, and one for the list of both.
    for (options, incomplete) in [("ro", false), ("size=12k", true)] {
        let inner = run(directory.path(), "usermap", &["--evidence", &kept]);
        let mounts = format!("mount -t tmpfs -o {options} tmpfs {kept}");
        let Some(command) = in_mount_namespace(&mounts, directory.path(), &inner) else { return };
        let Ran { code, report, said } = ran(directory.path(), command);
        assert_eq!(code, 1, "{said}");
        let [case] = &report.cases[..] else { panic!("{said}") };
        let error = case.evidence_error.as_deref().expect("it is told");
        let (what, cause) =
            if incomplete { ("is not complete", "No space left on device") } else { ("could not be kept", "Read-only file system") };
        assert!(error.contains(cause) && error.contains("`--evidence DIR`"), "{error}");
        assert_eq!(case.evidence.is_some(), incomplete, "{said}");
        assert!(said.contains(&format!("  evidence  {what}: could not ")), "{said}");
        assert!(said.contains("Evidence that is missing or not complete\n        1  could not "), "{said}");
    }
}

#[test]
fn a_log_that_can_not_be_kept_is_told_with_the_error_that_names_it() {
    let Some(directory) = place() else { return };
    let args = ["--evidence", "/dev/null/none", "--start-timeout", "0.001"];
    let Ran { code, said, .. } = ran(directory.path(), run(directory.path(), "usermap", &args));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("ERRORED (start)") && said.contains("this log will be gone: could not make /dev/null: "), "{said}");
}

/// What is in the evidence's directory.
fn runs(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("reports/evidence")).expect("there").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn the_last_runs_evidence_stays_and_what_others_put_there() {
    let Some(directory) = place() else { return };
    let Ran { report, .. } = ran(directory.path(), run(directory.path(), "usermap", &[]));
    let first = evidence(directory.path(), &report);
    write(directory.path(), "reports/evidence/own/case.json", "mine");
    std::fs::write(first.join("notes.txt"), "mine").expect("writes");
    let Ran { report, .. } = ran(directory.path(), run(directory.path(), "usermap", &[]));
    let second = evidence(directory.path(), &report);
    let left: Vec<_> = std::fs::read_dir(&first).expect("it has my notes").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["notes.txt"]);
    let Ran { report, .. } = ran(directory.path(), run(directory.path(), "usermap", &["--keep-evidence"]));
    let third = evidence(directory.path(), &report);
    assert!(second.join("case.json").is_file() && third.join("case.json").is_file());
    let mut command = run(directory.path(), "usermap", &[]);
    command.env("MTLS_CONFORMANCE_KEEP_EVIDENCE", "1");
    ran(directory.path(), command);
    assert!(second.join("case.json").is_file());
    assert_eq!(runs(directory.path()).len(), 5, "{:?}", runs(directory.path()));
    // A run that conforms begins, too.
    write(directory.path(), "checks/own/usermap.yaml", &USERMAP.replace(" map=apps", ""));
    assert_eq!(run(directory.path(), "usermap", &[]).output().expect("runs").status.code(), Some(0));
    let first = first.parent().and_then(Path::file_name).expect("a name").to_string_lossy().into_owned();
    assert_eq!(runs(directory.path()), [first, "own".to_owned()]);
}

#[test]
fn a_run_beside_another_leaves_its_evidence_alone() {
    let Some(directory) = place() else { return };
    let mut held = Running::start(run(directory.path(), "usermap", &["--hold", "on-failure"]));
    held.wait_for_texts(&["holding the servers"]);
    let Ran { report, .. } = ran(directory.path(), run(directory.path(), "usermap", &[]));
    let second = evidence(directory.path(), &report);
    assert_eq!(runs(directory.path()).len(), 2);
    kill(Pid::from_raw(held.pid()), Signal::SIGINT).expect("it is there");
    assert_eq!(held.wait().code(), Some(1), "{}", held.said());
    assert!(second.join("case.json").is_file());
    ran(directory.path(), run(directory.path(), "usermap", &[]));
    assert_eq!(runs(directory.path()).len(), 1, "both are over");
}
