//! The agent as a process of its own: how it begins and ends, and a real PostgreSQL that it runs.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::{Agent, AgentLease, DirectorySpec, FileSpec, Owner, RemoteChild, UnixForward};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use os::child::ChildSpec;
use os::poll;
use tokio::time::timeout;

use crate::support::{PATIENCE, binary, newest_postgres};

const TOKEN: &str = "the token of these tests";

/// Tells the host of [`a_host_that_is_killed`] where its agent is, and where to write what.
const HOST: &str = "MTLS_CONFORMANCE_TEST_AGENT_HOST";

/// An agent's process. It is killed at the end, if it has not ended by itself.
struct Process {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Process {
    fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let token = directory.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).expect("writes");
        let mut child = Command::new(binary())
            .args(["agent", "--listen", "127.0.0.1:0", "--token-file"])
            .arg(&token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("reads");
        let port: u16 = line.trim().parse().expect("its port");
        Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)), _directory: directory }
    }

    fn agent(&self) -> Agent {
        Agent::new(self.address, TOKEN)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("fits"))
    }

    async fn ends(&mut self) -> std::process::ExitStatus {
        poll::until("the agent's end", PATIENCE, Duration::from_millis(5), || {
            let state = self.child.try_wait();
            async move { state.ok().flatten().ok_or_else(|| "it runs".to_owned()) }
        })
        .await
        .expect("it ends")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shell(script: &str) -> ChildSpec {
    ChildSpec::new("/bin/sh", "/nonexistent/log").arg("-c").arg(script)
}

async fn until_gone(pid: u32) {
    poll::until("a process's end", PATIENCE, Duration::from_millis(2), || async move {
        // A zombie that init has not collected yet has no command line any more.
        if std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) { Err(format!("{pid} lives")) } else { Ok(()) }
    })
    .await
    .expect("it ends");
}

async fn until_text(path: &Path, wanted: impl Fn(&str) -> bool) -> String {
    poll::until("a file's text", PATIENCE, Duration::from_millis(2), || async {
        match std::fs::read_to_string(path) {
            Ok(text) if wanted(&text) => Ok(text),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .expect("it is written")
}

async fn sleeper(agent: &Agent, directory: &Path) -> RemoteChild {
    agent.spawn(&shell("exec sleep 1000"), &directory.join("out")).await.expect("starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_leases_end_is_the_end_of_the_agent_and_its_children() {
    let mut process = Process::start();
    let directory = tempfile::tempdir().expect("a directory");
    let agent = process.agent();
    let lease: AgentLease = agent.hold().await.expect("holds");
    let child = sleeper(&agent, directory.path()).await;
    let output = directory.path().join("two");
    let deaf = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    let stubborn = agent.spawn(&deaf, &output).await.expect("starts");
    until_text(&output, |text| text == "ready\n").await;
    let pids = [child.pid(), stubborn.pid()].map(|pid| pid.expect("a pid"));
    drop(lease);
    assert!(process.ends().await.success());
    for pid in pids {
        until_gone(pid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_agent_and_its_children() {
    let mut process = Process::start();
    let directory = tempfile::tempdir().expect("a directory");
    let agent = process.agent();
    let lease = agent.hold().await.expect("holds");
    let mut child = sleeper(&agent, directory.path()).await;
    kill(process.pid(), Signal::SIGTERM).expect("it is there");
    let status = timeout(PATIENCE, child.wait()).await.expect("known").expect("told");
    assert_eq!((status.signal(), child.is_lost()), (Some(nix::libc::SIGTERM), false));
    timeout(PATIENCE, lease.agent_ended()).await.expect("noticed");
    assert!(process.ends().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_looks_like_killed_children_and_takes_them_along() {
    let mut process = Process::start();
    let directory = tempfile::tempdir().expect("a directory");
    let agent = process.agent();
    let lease = agent.hold().await.expect("holds");
    let mut child = sleeper(&agent, directory.path()).await;
    let pid = child.pid().expect("a pid");
    kill(process.pid(), Signal::SIGKILL).expect("it is there");
    let status = timeout(PATIENCE, child.wait()).await.expect("known").expect("told");
    assert_eq!((status.signal(), child.is_lost(), child.pid()), (Some(nix::libc::SIGKILL), true, None));
    timeout(PATIENCE, lease.agent_ended()).await.expect("noticed");
    until_gone(pid).await;
    process.ends().await;
    assert_eq!(child.stop(PATIENCE).await, Some(status));
    let error = agent.survey().await.expect_err("gone");
    assert!(error.to_string().contains("could not reach the agent"), "{error}");
}

/// Not a test: the host's process of the test below, which kills it.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed() {
    let Some(told) = std::env::var_os(HOST) else { return };
    let directory = PathBuf::from(told);
    let address = std::fs::read_to_string(directory.join("address")).expect("reads").parse().expect("an address");
    let agent = Agent::new(address, TOKEN);
    let _lease = agent.hold().await.expect("holds");
    let child = sleeper(&agent, &directory).await;
    std::fs::write(directory.join("pid"), format!("{}\n", child.pid().expect("a pid"))).expect("writes");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_of_the_host_ends_the_agent_and_its_children() {
    let mut process = Process::start();
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("address"), process.address.to_string()).expect("writes");
    let mut host = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "agents::a_host_that_is_killed", "--nocapture"])
        .env(HOST, directory.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let pid = until_text(&directory.path().join("pid"), |text| text.ends_with('\n')).await;
    assert!(process.child.try_wait().expect("asked").is_none());
    host.kill().expect("SIGKILL");
    host.wait().expect("waits");
    assert!(process.ends().await.success());
    until_gone(pid.trim().parse().expect("a pid")).await;
}

#[test]
fn an_agent_without_a_token_or_a_port_says_so_and_does_not_begin() {
    let directory = tempfile::tempdir().expect("a directory");
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\n").expect("writes");
    let token = directory.path().join("token");
    std::fs::write(&token, TOKEN).expect("writes");
    let cases = [
        ("127.0.0.1:0", directory.path().join("missing"), "missing"),
        ("127.0.0.1:0", empty, "must not be empty"),
        ("192.0.2.1:0", token, "192.0.2.1"),
    ];
    for (listen, file, said) in cases {
        let output = Command::new(binary()).args(["agent", "--listen", listen, "--token-file"]).arg(&file).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{text}");
        assert!(text.contains(said) && !text.contains(TOKEN), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_runs_as_an_agents_child_and_its_log_names_the_dialled_connection() {
    let Some(build) = newest_postgres() else { return };
    let process = Process::start();
    let agent = process.agent();
    let _lease = agent.hold().await.expect("holds");
    let base = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(base.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let (there, here) = (base.path().join("there"), base.path().join("here"));
    std::fs::create_dir(&here).expect("makes");
    let user = agent.survey().await.expect("told").run_as().cloned();
    let owner = user.as_ref().map(Owner::from);
    agent.make_directories(&[DirectorySpec { path: there.clone(), mode: 0o700, owner }]).await.expect("makes");
    let program =
        |name: &str| ChildSpec { user: user.clone(), directory: Some(there.clone()), ..ChildSpec::new(build.bin.join(name), "unused") };
    let data = there.join("data");
    let initdb = program("initdb").arg("--no-sync").arg("--auth=trust").arg("--username=postgres").arg("-D").arg(&data);
    let ran = agent.run(&initdb, None, PATIENCE).await.expect("runs");
    assert!(ran.status.success(), "{}", ran.errors());

    // Through an archive, as a prepared data directory comes.
    let tar = here.join("data.tar");
    agent.pack(&data, &tar).await.expect("packs");
    agent.remove(std::slice::from_ref(&data)).await.expect("removes");
    agent.unpack(&tar, &data, owner).await.expect("unpacks");

    let hba = FileSpec {
        path: data.join("pg_hba.conf"),
        contents: b"local all all trust\nhost all all 127.0.0.0/8 trust\n".to_vec(),
        mode: 0o600,
        owner,
    };
    agent.write(&[hba]).await.expect("writes");

    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let mut postgres = program("postgres").arg("-D").arg(&data);
    postgres.stop_signal = Signal::SIGINT;
    for (name, value) in [
        ("port", port.to_string()),
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", there.display().to_string()),
        ("log_destination", "jsonlog".to_owned()),
        ("logging_collector", "on".to_owned()),
        ("log_directory", there.display().to_string()),
        ("log_filename", "server.log".to_owned()),
        ("log_connections", "on".to_owned()),
    ] {
        postgres = postgres.arg("-c").arg(format!("{name}={value}"));
    }
    let mut server = agent.spawn(&postgres, &here.join("out")).await.expect("starts");
    let socket = there.join(format!(".s.PGSQL.{port}"));
    until_text(&there.join("server.json"), |text| text.contains("ready to accept connections")).await;
    let log = here.join("server.json");
    let _follower = agent.follow(&there.join("server.json"), &log).await.expect("follows");

    let server_address = SocketAddr::from(([127, 0, 0, 1], port));
    let dialled = agent.dial(server_address, Some([127, 0, 0, 9].into())).await.expect("connects");
    let client = dialled.client;
    let config = "user=postgres dbname=postgres".parse::<tokio_postgres::Config>().expect("options");
    let (session, connection) = config.connect_raw(dialled.stream, tokio_postgres::NoTls).await.expect("connects");
    let connection = tokio::spawn(connection);
    let row = session.query_one("select host(inet_client_addr()), inet_client_port()", &[]).await.expect("answers");
    assert_eq!((row.get::<_, String>(0), row.get::<_, i32>(1)), ("127.0.0.9".to_owned(), i32::from(client.port())));
    let line = format!("\"remote_host\":\"127.0.0.9\",\"remote_port\":{}", client.port());
    until_text(&log, |text| text.contains(&line)).await;

    let way = UnixForward::open(agent.clone(), &here.join("way").join(format!(".s.PGSQL.{port}")), &socket).expect("opens");
    let psql = Command::new(build.bin.join("psql"))
        .args(["-XAtqU", "postgres", "-d", "postgres", "-p", &port.to_string(), "-c", "select inet_client_addr() is null", "-h"])
        .arg(way.path().parent().expect("a directory"))
        .output();
    // Not every build brings psql.
    if let Ok(psql) = psql {
        assert_eq!(String::from_utf8_lossy(&psql.stdout).trim(), "t", "{}", String::from_utf8_lossy(&psql.stderr));
    }

    let status = server.stop(PATIENCE).await.expect("told");
    assert!(status.success(), "{status:?}");
    assert!(session.query_one("select 1", &[]).await.is_err());
    let _ = timeout(PATIENCE, connection).await.expect("it ends with the server");
}
