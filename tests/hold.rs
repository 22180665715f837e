//! `--hold on-failure`: the servers are as they were for the case that failed, and the command lines that are printed connect to them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{Running, harness, newest_postgres, skipped, toolchain, write};

/// Wrong about a session with the password. The configuration lets the application in.
const POSTGRES: &str = "\
id: own/postgres
title: Wrong about the password
claims: []
deployment: documented
matrix:
  driver: [rustls]
server:
  pg_hba: [hostssl all app all scram-sha-256]
steps:
  - connect: {sslmode: verify-full, identity: none, password: right}
    expect:
      - session: {tls: false}
";

/// Comes after it on the same server, which then lets only another user in.
const POSTGRES_LATER: &str = "\
id: own/postgres-later
title: Another user
claims: []
deployment: documented
matrix:
  driver: [rustls]
server:
  pg_hba: [hostssl all postgres all trust]
steps:
  - connect: {sslmode: verify-full, identity: none, user: postgres}
    expect:
      - session: {tls: true}
";

/// Wrong about a session without a certificate, on a Redis that asks for none.
const REDIS: &str = "\
id: own/redis
title: Wrong about certificates
claims: []
service: redis
deployment: documented
matrix:
  driver: [redis-rs]
server:
  settings:
    tls-auth-clients: \"no\"
steps:
  - connect: {identity: none}
    expect:
      - session: {tls: false}
";

/// Comes after it on the same server, which then asks for certificates.
const REDIS_LATER: &str = "\
id: own/redis-later
title: With a certificate
claims: []
service: redis
deployment: documented
matrix:
  driver: [redis-rs]
server:
  settings:
    tls-auth-clients: \"yes\"
steps:
  - connect: {}
    expect:
      - session: {tls: true}
";

/// Pastes a line into a shell, types this, and gives what came back.
fn paste(line: &str, typed: &str) -> String {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).env_remove("PGPASSWORD").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = shell.spawn().expect("a shell");
    shell.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("it reads");
    let output = shell.wait_with_output().expect("it ends");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{line}\n{text}");
    text
}

#[test]
fn printed_commands_connect_to_servers_as_they_were_for_the_case_that_failed() {
    let Some(build) = newest_postgres() else { return };
    let installed = |program: &str| Command::new(program).arg("--version").output().is_ok();
    if toolchain().redis.is_none() || !installed("psql") || !installed("redis-cli") {
        return skipped("Redis, psql or redis-cli is not installed");
    }
    let directory = tempfile::tempdir().expect("a directory");
    for (name, scenario) in [("postgres", POSTGRES), ("postgres-later", POSTGRES_LATER), ("redis", REDIS), ("redis-later", REDIS_LATER)] {
        write(directory.path(), &format!("checks/own/{name}.yaml"), scenario);
    }
    let major = build.major.to_string();
    let args = ["run", "own/*", "--scenarios", "checks", "--postgres", &major, "--hold", "on-failure"];
    let mut run = Running::start(harness(directory.path(), &args));
    run.wait_for_texts(&["    psql ", "redis-cli "]);
    let said = run.said();
    let line = |word: &str| said.lines().find(|line| line.starts_with("    ") && line.contains(word)).expect("it is printed").to_owned();
    for case in ["as it was for own/postgres:", "as it was for own/redis:"] {
        assert!(said.contains(case), "{said}");
    }
    let (psql, redis_cli) = (line("psql "), line("redis-cli "));
    assert!(paste(&psql, "SELECT 'user ' || current_user;\n").contains("user app"));
    assert!(paste(&redis_cli, "PING\n").contains("PONG"));

    let file = psql.split("passfile=").nth(1).expect("a file").trim_end_matches('\'');
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).expect("there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    let password = std::fs::read_to_string(file).expect("there").trim().rsplit(':').next().expect("a password").to_owned();
    assert!(password.len() > 20 && !said.contains(&password), "no password is printed");

    kill(Pid::from_raw(run.pid()), Signal::SIGINT).expect("it is there");
    assert_eq!(run.wait().code(), Some(1), "{}", run.said());
    assert!(!std::path::Path::new(file).exists(), "it goes with the run's directory");
}
