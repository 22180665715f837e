//! What is left when the process that holds the servers is killed: nothing.

use std::process::{Command, Stdio};

use super::postgres::assert_nothing_left;
use super::*;

/// Names the run directory for the process below, and makes it more than an empty test.
const HOLD: &str = "MTLS_CONFORMANCE_TEST_HOLD";

/// The process that is killed: this test's own binary, running this test only.
#[test]
fn holder() {
    let Some(run) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let configurator: Arc<dyn Configurator> = Arc::new(TestConfigurator::new());
        let environment = LocalEnvironment::new(LocalOptions::new(toolchain(), &run, cache(), configurator)).expect("randomness");
        environment.server(postgres_key(any_major())).await.expect("it starts");
        environment.server(redis_key()).await.expect("it starts");
        std::fs::write(run.join("ready"), "ready\n").expect("writes");
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_of_the_holder_every_server_ends_and_frees_its_shared_memory() {
    let run = run_directory();
    let mut holder = Command::new(std::env::current_exe().expect("a path"))
        .args(["--exact", "environment::local::tests::leaks::holder", "--nocapture"])
        .env(HOLD, run.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let ready = run.path().join("ready");
    crate::os::poll::until("the servers' start", Duration::from_secs(60), Duration::from_millis(5), || {
        let state = match (ready.is_file(), holder.try_wait()) {
            (true, _) => Ok(()),
            (false, status) => Err(format!("{status:?}")),
        };
        async move { state }
    })
    .await
    .expect("the servers start");
    let servers = crate::os::tree::processes_in(run.path());
    assert!(servers.len() > 2, "{servers:?}");
    let segments = segments_of(&servers);
    assert!(!segments.is_empty(), "PostgreSQL has a System V segment");
    holder.kill().expect("SIGKILL");
    holder.wait().expect("waits");
    assert_nothing_left(run.path()).await;
    let left = segments_of(&servers);
    assert!(left.is_empty(), "shared memory segments of {left:?} are left");
}

/// The creators of System V shared memory segments among these processes (column `cpid`).
fn segments_of(processes: &[i32]) -> Vec<i32> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").expect("a table");
    let creators = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    creators.filter(|pid| processes.contains(pid)).collect()
}
