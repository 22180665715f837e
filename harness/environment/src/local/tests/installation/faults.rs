//! Servers that hang or are killed.

use super::super::postgres::assert_nothing_left;
use super::*;
use model::observation::LogLine;

/// Far longer than a server that goes on takes for an answer.
const SILENCE: Duration = Duration::from_millis(300);

/// The process that locks PostgreSQL's data directory, running or killed.
fn postmaster(installation: &Arc<dyn Installation>) -> i32 {
    let log = installation.server(Target::Postgres).expect("a PostgreSQL").log_path();
    let data = log.parent().and_then(Path::parent).expect("a root").join("data");
    let lock = std::fs::read_to_string(data.join("postmaster.pid")).expect("a lock");
    lock.lines().next().expect("a line").parse().expect("a pid")
}

/// Whether a System V segment of this server is there.
fn has_segment(postmaster: i32) -> bool {
    let table = std::fs::read_to_string("/proc/sysvipc/shm").expect("a table");
    table.lines().skip(1).any(|line| line.split_whitespace().nth(4) == Some(&postmaster.to_string()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_postgresql_answers_nobody_and_goes_on_with_all_who_waited() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let (open, _) = session(&installation).await.expect("a session");
    apply(&installation, [Change::Pause(Target::Postgres)]).await;
    let address = installation.server(Target::Postgres).expect("a PostgreSQL").address();
    TcpStream::connect(address).await.expect("the kernel takes connections");
    let (mut query, mut opens) = (Box::pin(open.simple_query("SELECT 1")), Box::pin(session(&installation)));
    tokio::time::timeout(SILENCE, query.as_mut()).await.expect_err("it does not answer");
    tokio::time::timeout(SILENCE, opens.as_mut()).await.map(drop).expect_err("nor there");
    for change in [Change::Pause(Target::Postgres), Change::Reload(Target::Postgres), Change::Stop(Target::Postgres)] {
        let said = error(&installation, change).await;
        assert!(said.contains("is paused: resume it first"), "{said}");
    }
    apply(&installation, [Change::Resume(Target::Postgres)]).await;
    query.await.expect("its answer");
    opens.await.expect("a session");
    let said = error(&installation, Change::Resume(Target::Postgres)).await;
    assert!(said.contains("is not paused"), "{said}");
    apply(&installation, [Change::Reload(Target::Postgres), Change::Restart(Target::Postgres)]).await;
    installation.close().await;
    assert_nothing_left(fixture.run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_postgresql_says_nothing_recovers_at_its_start_and_keeps_what_it_had_taken() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let server = installation.server(Target::Postgres).expect("a PostgreSQL");
    let (open, _) = session(&installation).await.expect("a session");
    let (first, mark) = (postmaster(&installation), server.log_mark());
    // Paused before: it makes no difference.
    apply(&installation, [Change::Pause(Target::Postgres), Change::Kill(Target::Postgres)]).await;
    assert_nothing_left(fixture.run.path()).await;
    let said = open.simple_query("SELECT 1").await.map(drop).expect_err("its end");
    assert!(said.code().is_none(), "no word of the server: {said:?}");
    let refused = session(&installation).await.map(drop).expect_err("nobody listens");
    assert!(refused.contains("refused"), "{refused}");
    assert!(has_segment(first), "SIGKILL frees nothing");
    let said = error(&installation, Change::Kill(Target::Postgres)).await;
    assert!(said.contains("is stopped: start it first"), "{said}");
    apply(&installation, [Change::Start(Target::Postgres)]).await;
    let recovers = |lines: &[LogLine]| lines.iter().any(|line| line.contains("was not properly shut down"));
    assert!(recovers(&server.says_since(mark, &recovers, LIMIT).await));
    assert!(!has_segment(first), "the next start frees it");
    // By the name and the password that it was given a moment before its end.
    session(&installation).await.expect("a session");
    let second = postmaster(&installation);
    installation.close().await;
    assert!(!has_segment(second));
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_and_killed_installations_leave_nothing_closed_or_dropped() {
    let fixture = fixture();
    for dropped in [false, true] {
        for (key, target) in [(postgres(), Target::Postgres), (redis_key(), Target::Redis)] {
            for fault in [Change::Pause(target), Change::Kill(target)] {
                let installation = install(&fixture, key).await;
                let postmaster = (target == Target::Postgres).then(|| postmaster(&installation));
                // One that others hold.
                let server = installation.server(target).expect("a server");
                apply(&installation, [fault.clone()]).await;
                assert_eq!(postmaster.is_some_and(has_segment), postmaster.is_some());
                if dropped {
                    drop(installation);
                } else {
                    installation.close().await;
                }
                assert_nothing_left(fixture.run.path()).await;
                assert!(!postmaster.is_some_and(has_segment), "{fault}, dropped: {dropped}");
                let left: Vec<_> = std::fs::read_dir(fixture.run.path()).expect("readable").flatten().map(|entry| entry.path()).collect();
                assert!(!left.iter().any(|path| path.join("client").exists()), "{fault}, dropped: {dropped}: {left:?}");
                drop(server);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_redis_answers_nobody_and_goes_on_and_a_killed_one_starts_again() {
    let fixture = fixture();
    let installation = install(&fixture, redis_key()).await;
    apply(&installation, [Change::Pause(Target::Redis)]).await;
    let mut waiting = Box::pin(redis::ping(&installation));
    tokio::time::timeout(SILENCE, waiting.as_mut()).await.expect_err("it does not answer");
    apply(&installation, [Change::Resume(Target::Redis)]).await;
    waiting.await.expect("its answer");
    apply(&installation, [Change::Kill(Target::Redis)]).await;
    let refused = redis::ping(&installation).await.expect_err("nobody listens");
    assert!(refused.contains("refused"), "{refused}");
    apply(&installation, [Change::Start(Target::Redis)]).await;
    redis::ping(&installation).await.expect("an answer");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_hangs_goes_on_and_is_killed_and_a_paused_one_leaves_nothing() {
    if !super::super::gateway::has_haproxy() {
        return;
    }
    let fixture = fixture();
    let options = InstallOptions { with: vec![Target::Gateway], ..options(redis_key()) };
    let installation = fixture.environment.install(&options).await.expect("it is installed");
    assert!(error(&installation, Change::Resume(Target::Gateway)).await.contains("is not paused"));
    let route = installation.gateway().expect("it has one").route(Service::Redis).expect("a route");
    let through = || async {
        use tokio::io::AsyncReadExt as _;
        // No ClientHello: a gateway that goes on hangs up.
        let mut stream = TcpStream::connect(route.address).await.map_err(|error| error.to_string())?;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello\r\n\r\n").await.map_err(|error| error.to_string())?;
        Ok::<_, String>(stream.read(&mut [0; 16]).await)
    };
    apply(&installation, [Change::Pause(Target::Gateway)]).await;
    assert!(error(&installation, Change::Pause(Target::Gateway)).await.contains("paused already"));
    let mut waiting = Box::pin(through());
    tokio::time::timeout(SILENCE, waiting.as_mut()).await.map(drop).expect_err("it does not answer");
    apply(&installation, [Change::Resume(Target::Gateway)]).await;
    waiting.await.map(drop).expect("it hung up");
    apply(&installation, [Change::Kill(Target::Gateway)]).await;
    let refused = through().await.map(drop).expect_err("nobody listens");
    assert!(refused.contains("refused"), "{refused}");
    assert!(error(&installation, Change::Kill(Target::Gateway)).await.contains("start it first"));
    apply(&installation, [Change::Start(Target::Gateway), Change::Pause(Target::Gateway)]).await;
    let gateway = installation.gateway();
    drop(installation);
    assert_nothing_left(fixture.run.path()).await;
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shares_the_loopback_interface_can_not_be_cut_off_and_that_is_said_before() {
    let fixture = fixture();
    for change in [Change::Cut(Target::Postgres), Change::Mend(Target::Redis), Change::Cut(Target::Gateway)] {
        let reason = fixture.environment.unable_change(&change).expect("it can't").to_string();
        assert!(reason.contains("network: run it with --environment container"), "{reason}");
    }
    for change in [Change::Pause(Target::Postgres), Change::Kill(Target::Redis), Change::Stop(Target::Gateway)] {
        assert_eq!(fixture.environment.unable_change(&change), None);
    }
    let installation = install(&fixture, redis_key()).await;
    assert!(error(&installation, Change::Cut(Target::Redis)).await.contains("it can't be cut"));
    installation.close().await;
}
