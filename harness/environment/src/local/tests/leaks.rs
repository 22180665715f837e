//! What is left when the process that holds the servers is killed: nothing.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use super::postgres::assert_nothing_left;
use super::*;
use model::change::{Change, Target};
use os::rundir::{RunDir, watch};

/// Names the base directory for the process below, and makes it more than an empty test.
const HOLD: &str = "MTLS_CONFORMANCE_TEST_HOLD";

/// Set where the servers of the process below are paused or killed before it is.
const FAULTS: &str = "MTLS_CONFORMANCE_TEST_FAULTS";

/// Names the directory to watch for the second process below.
const WATCH: &str = "MTLS_CONFORMANCE_TEST_WATCH";

/// A test's name as the test binary knows it: without the crate's.
fn of_this_file(test: &str) -> String {
    let (_, module) = module_path!().split_once("::").expect("a module");
    format!("{module}::{test}")
}

/// The watcher of the run directory: this test's own binary, running this test only.
#[test]
fn watcher() {
    if let Some(directory) = std::env::var_os(WATCH) {
        watch(Path::new(&directory), |_| {});
    }
}

/// The process that is killed: this test's own binary, running this test only.
#[test]
fn holder() {
    let Some(base) = std::env::var_os(HOLD).map(PathBuf::from) else { return };
    let run_directory = RunDir::create_in(&base, Some(&base.join("watcher"))).expect("a directory with a watcher");
    let run = run_directory.path().to_path_buf();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let configurator: Arc<dyn Configurator> = Arc::new(TestConfigurator::new());
        let mut options = LocalOptions::new(toolchain(), &run, cache(), configurator);
        options.template = Some(installation::template());
        let environment = environment(options).expect("randomness");
        let mut installations = Vec::new();
        let mut all = vec![installation::options(postgres_key(any_major())), installation::options(redis_key())];
        all[0].with.push(Target::Replica);
        if environment.unable_gateway(redis_key()).is_none() {
            all[1].with.push(Target::Gateway);
        }
        for options in &all {
            installations.push(environment.install(options).await.expect("it is installed"));
        }
        if std::env::var_os(FAULTS).is_some() {
            let mut faults = vec![
                (0, Change::Pause(Target::Postgres)),
                (0, Change::Kill(Target::Replica)),
                (1, Change::Pause(Target::Redis)),
                (1, Change::Pause(Target::Gateway)),
            ];
            faults.retain(|(index, fault)| {
                *index == 0 || all[1].with.contains(&Target::Gateway) || fault.of_server() != Some(Target::Gateway)
            });
            for (index, fault) in faults {
                installations[index].apply(&fault).await.expect("it is made");
            }
        }
        environment.server(postgres_key(any_major())).await.expect("it starts");
        environment.server(redis_key()).await.expect("it starts");
        if environment.unable_gateway(redis_key()).is_none() {
            environment.gateway(redis_key()).await.expect("it starts");
        }
        std::fs::write(base.join("ready"), run.to_str().expect("a path")).expect("writes");
        std::future::pending::<()>().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_of_the_holder_every_server_ends_frees_its_shared_memory_and_the_directory_goes() {
    after_sigkill(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigkill_of_the_holder_paused_servers_end_too_and_the_shared_memory_of_killed_ones_goes() {
    after_sigkill(true).await;
}

async fn after_sigkill(faults: bool) {
    let base = run_directory();
    let program = std::env::current_exe().expect("a path");
    // Stands for `mtls-conformance watch-run-directory DIRECTORY`.
    let script = format!("#!/bin/sh\n{WATCH}=\"$2\" exec {} --exact {} --nocapture\n", program.display(), of_this_file("watcher"));
    std::fs::write(base.path().join("watcher"), script).expect("writes");
    std::fs::set_permissions(base.path().join("watcher"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut holder = Command::new(program);
    if faults {
        holder.env(FAULTS, "yes");
    }
    let mut holder = holder
        .args(["--exact", &of_this_file("holder"), "--nocapture"])
        .env(HOLD, base.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let ready = base.path().join("ready");
    let run = os::poll::until("the servers' start", Duration::from_secs(60), Duration::from_millis(5), || {
        let state = match (std::fs::read_to_string(&ready), holder.try_wait()) {
            (Ok(run), _) if !run.is_empty() => Ok(PathBuf::from(run)),
            (_, Ok(None)) => Err("they are starting".to_owned()),
            (_, status) => panic!("the holder ended before its servers had started: {status:?}"),
        };
        async move { state }
    })
    .await
    .expect("the servers start");
    let servers = os::tree::processes_in(&run);
    assert!(servers.len() > 4, "{servers:?}");
    let is_haproxy = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "haproxy");
    assert_eq!(servers.iter().filter(|pid| is_haproxy(pid)).count(), if toolchain().haproxy.is_some() { 2 } else { 0 });
    let postmasters = postmasters_below(&run);
    assert_eq!(segments_of(&postmasters).len(), 3, "each PostgreSQL has a System V segment");
    assert_eq!(postmasters.iter().filter(|pid| servers.contains(pid)).count(), if faults { 2 } else { 3 });
    holder.kill().expect("SIGKILL");
    holder.wait().expect("waits");
    assert_nothing_left(&run).await;
    os::poll::until("the directory's removal", Duration::from_secs(10), Duration::from_millis(1), || async {
        if run.exists() { Err("it is there".to_owned()) } else { Ok(()) }
    })
    .await
    .expect("the watcher removes it");
    let left = segments_of(&postmasters);
    assert!(left.is_empty(), "shared memory segments of {left:?} are left");
}

/// The processes that lock the data directories in a directory, killed or not.
fn postmasters_below(directory: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    for path in std::fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path()) {
        if path.file_name().is_some_and(|name| name == "postmaster.pid") {
            let text = std::fs::read_to_string(path).expect("readable");
            found.push(text.lines().next().expect("a line").parse().expect("a pid"));
        } else if path.is_dir() && !path.is_symlink() {
            found.extend(postmasters_below(&path));
        }
    }
    found
}

/// The creators of System V shared memory segments among these processes (column `cpid`).
fn segments_of(processes: &[i32]) -> Vec<i32> {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").expect("a table");
    let creators = table.lines().skip(1).filter_map(|line| line.split_whitespace().nth(4)?.parse().ok());
    creators.filter(|pid| processes.contains(pid)).collect()
}
