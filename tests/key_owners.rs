//! Who may read a key, and that verdicts don't depend on who runs the harness: root would read every key.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::observation::ClientOutcome;
use model::outcome::{Outcome, SkipReason};
use model::refusal::{FileRefusal, Refusal};
use model::report::RunUsers;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use os::user::RunAs;

use crate::support::{
    NOBODY, REPORT, Ran, Running, can_be_another, harness, newest_postgres, open_directory, ran, repository, skipped, toolchain, write,
};

/// The modes of a volume of Kubernetes with an fsGroup, for files of the client itself, of root and of somebody else.
const CREDENTIALS: &str = "\
distributions:
  own-0440: {identity: app-site, default_mode: 288}
  own-0640: {identity: app-site, default_mode: 416}
  root-0440: {identity: app-site, default_mode: 288, owned_by_root: true}
  root-0640: {identity: app-site, default_mode: 416, owned_by_root: true}
  root-0660: {identity: app-site, default_mode: 432, owned_by_root: true}
  root-0400: {identity: app-site, default_mode: 256, owned_by_root: true}
  other-0440: {identity: app-site, default_mode: 288, owned_by_other: true}
";

const SCENARIO: &str = "\
id: bug/fsgroup
title: A volume with fsGroup
description: vault-helm 133, kubernetes 57117, yugabyte-db 7166.
claims: []
deployment: documented
matrix:
  driver: [rustls, \"libpq-*\", psycopg2-2.9.12]
  site: [own-0440, own-0640, root-0440, root-0640, root-0660, root-0400, other-0440]
control: [{connect: {identity: app, trust: mtls-ca}}]
steps:
  - connect: {sslmode: verify-full, identity: \"${site}\", trust: \"${site}\"}
    expect:
      - session: {tls: true}
";

/// Runs the case as this user, or as ourselves.
fn run(user: Option<&RunAs>, major: u16) -> Ran {
    let directory = open_directory();
    write(directory.path(), "checks/credentials.yaml", CREDENTIALS);
    write(directory.path(), "checks/bug/fsgroup.yaml", SCENARIO);
    let major = major.to_string();
    let scenarios = repository().join("scenarios").display().to_string();
    let args = ["run", "bug/fsgroup", "--scenarios", "checks", "--scenarios", &scenarios, "--only-given-scenarios", "--postgres", &major];
    let manifests = repository().join("kind/deployment").display().to_string();
    let more = ["--manifests", &manifests, "--cache", "cache", "--timeout", "20"];
    let mut command = harness(directory.path(), &[&args[..], &more, &REPORT].concat());
    if let Some(user) = user {
        os::tree::give(directory.path(), Some(user)).expect("root gives away");
        command.uid(user.uid).gid(user.gid);
    }
    ran(directory.path(), command)
}

/// What became of each site's keys, with each driver: a session, the class of the refusal, or why it was skipped.
fn verdicts(ran: &Ran) -> BTreeMap<(String, String), String> {
    let verdict = |case: &model::report::CaseRecord| match &case.outcome {
        // Python and what belongs to it may lie where another user can't look.
        Outcome::Skipped(SkipReason::DriverMissing(_)) => None,
        Outcome::Skipped(SkipReason::MachineLacks(reason)) => Some(format!("skipped: {reason}")),
        Outcome::Pass | Outcome::Fail(_) => {
            let observed = case.steps[0].observed.as_ref().expect("a connection");
            Some(match &observed.client.outcome {
                ClientOutcome::Session(_) => "a session".to_owned(),
                ClientOutcome::Refused(refused) => refused.refusal.to_string(),
            })
        }
        other => panic!("{}: {other:?}", case.id),
    };
    let cases = ran.report.cases.iter();
    cases.filter_map(|case| Some(((case.values["site"].clone(), case.values["driver"].clone()), verdict(case)?))).collect()
}

#[test]
fn what_becomes_of_a_key_that_its_group_can_read_does_not_depend_on_who_runs_the_harness() {
    let Some(build) = newest_postgres() else { return };
    let ours = run(None, build.major);
    let of_ours = verdicts(&ours);
    assert!(!of_ours.is_empty(), "{}", ours.said);
    let (permissions, root, other) = (
        Refusal::File(FileRefusal::KeyPermissions).to_string(),
        "skipped: the key of `SITE` is to belong to root, and only",
        "skipped: the key of `SITE` is to belong to another user, and only",
    );
    let is_root = nix::unistd::geteuid().is_root();
    for ((site, driver), verdict) in &of_ours {
        let expected = match (site.as_str(), is_root) {
            ("own-0440" | "own-0640", _) | ("root-0660" | "other-0440", true) => permissions.clone(),
            ("root-0440" | "root-0640", true) => "a session".to_owned(),
            // Nobody but root can read it, as in a pod without an fsGroup: its files are all such.
            ("root-0400", true) => Refusal::File(FileRefusal::RootUnusable).to_string(),
            ("other-0440", false) => other.replace("SITE", site),
            _ => root.replace("SITE", site),
        };
        assert!(verdict.starts_with(&expected), "{site} with {driver}: {verdict:?}, expected {expected:?}");
    }
    let users = ours.report.environment.users.clone().expect("it says who ran what");
    assert!(ours.said.contains(&users.line()), "{}", ours.said);
    if !is_root {
        assert!(users.servers == users.harness && users.clients == users.harness, "{users:?}");
        return skipped("only root can be another user");
    }
    let RunUsers { harness, servers, clients } = &users;
    assert!(harness == "root" && servers != harness && clients != harness && servers != clients, "{users:?}");

    let nobody = RunAs::alone(NOBODY);
    if !reachable(crate::support::binary(), &nobody) || !reachable(&toolchain().postgres(build.major).expect("there").bin, &nobody) {
        return skipped("another user can't reach the harness or PostgreSQL");
    }
    let theirs = run(Some(&nobody), build.major);
    let of_theirs = verdicts(&theirs);
    assert!(of_theirs.keys().any(|(_, driver)| driver.starts_with("libpq-")), "{}", theirs.said);
    for (case, verdict) in &of_theirs {
        assert!(
            verdict == &of_ours[case] || verdict.starts_with("skipped: the key of"),
            "{case:?}: {verdict:?}, as root {:?}",
            of_ours[case]
        );
    }
    assert_eq!(of_theirs[&("own-0440".to_owned(), "rustls".to_owned())], permissions);
    assert!(of_theirs[&("root-0440".to_owned(), "rustls".to_owned())].ends_with("user 65534 runs this one"), "{of_theirs:?}");
}

fn reachable(path: &Path, user: &RunAs) -> bool {
    os::tree::reachable(path.parent().unwrap_or(path), user)
}

/// Fails, so that its server can be looked at.
const HELD: &str = "\
id: own/held
title: A session that is not to be
claims: []
deployment: documented
matrix:
  driver: [rustls, \"libpq-1*\", psycopg2-*, mine]
steps:
  - connect: {sslmode: verify-full}
    expect:
      - session: {tls: false}
";

/// A client of the user's own that says who it is, and connects nowhere.
const MINE: &str = "\
#!/bin/sh
echo '{\"hello\":{\"protocol\":1,\"concurrency\":1,\"driver\":{\"name\":\"mine\",\"service\":\"postgres\",\"family\":\"other\",\"version\":\"1\"}}}'
while read -r line; do
  number=${line#*:}
  echo \"{\\\"id\\\":${number%%,*},\\\"result\\\":{\\\"error\\\":\\\"I am $(id -u)\\\"}}\"
done
";

#[test]
fn clients_of_root_are_one_user_who_can_read_no_key_of_a_server_nor_the_servers_user_one_of_theirs() {
    let (Some(build), Some(_)) = (newest_postgres(), RunAs::of_clients()) else { return skipped("only root has other users") };
    let directory = open_directory();
    write(directory.path(), "checks/own/held.yaml", HELD);
    write(directory.path(), "mine.sh", MINE);
    std::fs::set_permissions(directory.path().join("mine.sh"), std::fs::Permissions::from_mode(0o755)).expect("executable");
    let major = build.major.to_string();
    let args =
        ["run", "own/held", "--scenarios", "checks", "--postgres", &major, "--exec-driver", "mine=./mine.sh", "--hold", "on-failure"];
    let mut run = Running::start(harness(directory.path(), &args));
    run.wait_for_texts(&["holding the servers", "(log "]);
    let said = run.said();
    let number = |before: &str| -> u32 {
        let (_, rest) = said.split_once(before).unwrap_or_else(|| panic!("{before:?} is in: {said}"));
        rest.split(|character: char| !character.is_ascii_digit()).next().and_then(|number| number.parse().ok()).expect("a number")
    };
    let (servers, clients) = (number("servers as user "), number("clients as user "));
    assert_eq!(number("I am "), clients, "{said}");
    let (_, credentials) = said.split_once("credentials are in ").expect("it says so");
    let credentials = PathBuf::from(credentials.lines().next().expect("a line"));
    let of_server = credentials.parent().expect("the run's directory").join(format!("postgres-{major}-documented/certificates/server.key"));
    let of_client = credentials.join("identities/app/tls.key");
    // The clients are in the servers' group, as which they enter the run's directory.
    let as_client = RunAs { groups: vec![servers], ..RunAs::alone(clients) };
    for (key, reader, other) in [(&of_server, RunAs::alone(servers), as_client.clone()), (&of_client, as_client, RunAs::alone(servers))] {
        assert!(std::fs::read_to_string(key).is_ok_and(|text| text.contains("PRIVATE KEY")), "{}: {said}", key.display());
        assert!(can_read(key, &reader), "{} as user {}", key.display(), reader.uid);
        assert!(!can_read(key, &other), "{} as user {}", key.display(), other.uid);
        assert!(!can_read(key, &RunAs::alone(NOBODY)), "{} as anybody", key.display());
    }
    // Nor what is no secret: the servers' user can't enter the directory of what clients are given.
    let certificate = of_client.with_file_name("tls.crt");
    assert!(can_read(&certificate, &RunAs { groups: vec![servers], ..RunAs::alone(clients) }), "{}: {said}", certificate.display());
    assert!(!can_read(&certificate, &RunAs::alone(servers)), "{}: {said}", certificate.display());
    let users = clients_of(run.pid());
    assert!(users.len() >= 3 && users.iter().all(|user| *user == clients), "{users:?}");
    kill(Pid::from_raw(run.pid()), Signal::SIGINT).expect("it is there");
    assert_eq!(run.wait().code(), Some(1), "{}", run.said());
}

/// The users of the client programs that this process has started.
fn clients_of(parent: i32) -> Vec<u32> {
    let mut users = Vec::new();
    for process in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let read = |file: &str| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
        let (line, status) = (read("cmdline"), read("status"));
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let is_client = ["own-client", "libpq-client", "mtls_client.py", "mine.sh"].iter().any(|name| line.contains(name));
        if is_client && field("PPid:").trim() == parent.to_string() {
            // Real, effective, saved and of the file system.
            users.extend(field("Uid:").split_whitespace().map(|uid| uid.parse::<u32>().expect("a number")));
        }
    }
    users
}

fn can_read(file: &Path, user: &RunAs) -> bool {
    let mut command = Command::new("cat");
    user.runs(command.arg(file).current_dir("/"));
    command.output().expect("cat runs").status.success()
}

/// `openssl` at the server: with the server's own key, with a client's, which is brought there, and with a file of root's.
const COMMANDS: &str = "\
id: own/commands
title: Commands beside the server
claims: []
deployment: documented
steps:
  - openssl: {args: [pkey, -noout, -check, -in, \"${server:server.key}\"]}
    expect: [{output: Key is valid}]
  - openssl: {args: [pkey, -noout, -check, -in, \"${identity:app/tls.key}\"], at: server}
    expect: [{output: Key is valid}]
  - openssl: {args: [verify, -CAfile, \"${server:client-ca.crt}\", \"${identity:app/tls.crt}\"]}
    expect: [{output: \"${identity:app/tls.crt}: OK\"}]
  - openssl: {args: [pkey, -noout, -in, CLOSED], at: server}
    expect: [{output: Permission denied, status: 1}]
";

#[test]
fn a_command_at_the_server_runs_as_the_servers_user_who_reads_no_file_of_root() {
    let Some(build) = newest_postgres() else { return };
    if !can_be_another() {
        return;
    }
    let directory = open_directory();
    let closed = directory.path().join("closed.key");
    write(directory.path(), "closed.key", "a key of root's");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
    write(directory.path(), "checks/own/commands.yaml", &COMMANDS.replace("CLOSED", &closed.display().to_string()));
    let args = ["run", "own/commands", "--scenarios", "checks", "--postgres", &build.major.to_string()];
    let run = ran(directory.path(), harness(directory.path(), &[&args[..], &REPORT[..]].concat()));
    let [case] = &run.report.cases[..] else { panic!("{}", run.said) };
    if let Outcome::Skipped(SkipReason::MachineLacks(reason)) = &case.outcome {
        return skipped(reason);
    }
    assert_eq!(case.outcome, Outcome::Pass, "{}", run.said);
    // The report has the paths that the scenario means, not those of copies.
    let command = case.steps[1].command.as_ref().expect("it ran");
    assert!(command.ends_with("identities/app/tls.key"), "{command}");
}
