//! Children of an agent.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use nix::libc::{ENOENT, SIGKILL, SIGTERM};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::{LIMIT, process_exists, served, shell, until, until_ends_with};
use crate::AgentError;
use os::child::ChildSpec;

#[tokio::test]
async fn output_and_errors_are_appended_and_the_status_is_the_childs() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    std::fs::write(&output, "before\n").expect("writes");
    let spec = shell("echo out $GREETING $HOME; echo err $LANG >&2; pwd; exit 7").env("GREETING", "hello");
    let spec = ChildSpec { directory: Some("/usr".into()), ..spec };
    let mut child = served.agent.spawn(&spec, &output).await.expect("starts");
    let status = timeout(LIMIT, child.wait()).await.expect("ends").expect("told");
    assert_eq!(status.code(), Some(7));
    assert_eq!(std::fs::read_to_string(&output).expect("there"), "before\nout hello\nerr C\n/usr\n");
    assert_eq!((child.try_wait(), child.pid(), child.is_lost()), (Some(status), None, false));
    assert_eq!(child.stop(LIMIT).await, Some(status), "stopping it again says the same");
}

#[tokio::test]
async fn a_lot_of_output_arrives_whole_before_the_end_is_known() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let mut child = served.agent.spawn(&shell("head -c 20000000 /dev/zero | tr '\\0' x; echo end"), &output).await.expect("starts");
    assert!(timeout(LIMIT, child.wait()).await.expect("ends").expect("told").success());
    let text = std::fs::read(&output).expect("there");
    assert_eq!(text.len(), 20_000_004);
    assert!(text.ends_with(b"xend\n"));
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_named_with_the_systems_error() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let missing = ChildSpec::new("/nonexistent/postgres", "unused");
    let error = served.agent.spawn(&missing, &output).await.expect_err("can't start");
    assert!(error.to_string().contains("/nonexistent/postgres"), "{error}");
    assert_eq!(error.errno(), Some(ENOENT));
    let error = served.agent.spawn(&shell("true"), "/nonexistent/out".as_ref()).await.expect_err("no place for its output");
    assert!(matches!(&error, AgentError::Local { .. }), "{error}");
}

#[tokio::test]
async fn signals_arrive_in_their_order() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let script = "trap 'echo hup' HUP; trap 'echo int' INT; trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.01; done";
    let mut child = served.agent.spawn(&shell(script), &output).await.expect("starts");
    until_ends_with(&output, "ready\n").await;
    child.signal(Signal::SIGHUP);
    until_ends_with(&output, "hup\n").await;
    child.signal(Signal::SIGINT);
    until_ends_with(&output, "int\n").await;
    let status = child.stop(LIMIT).await.expect("told");
    assert_eq!(status.code(), Some(3));
    assert_eq!(std::fs::read_to_string(&output).expect("there"), "ready\nhup\nint\nterm\n");
}

#[tokio::test]
async fn a_child_that_ignores_its_stop_signal_is_killed_with_its_group() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let mut child = served.agent.spawn(&shell("trap '' TERM; sleep 1000 & echo $!; wait; wait"), &output).await.expect("starts");
    until_ends_with(&output, "\n").await;
    let grandchild: u32 = std::fs::read_to_string(&output).expect("there").trim().parse().expect("a pid");
    let status = child.stop(Duration::from_millis(50)).await.expect("told");
    assert_eq!(status.signal(), Some(SIGKILL));
    until("the grandchild's end", || if process_is_alive(grandchild) { Err("alive".to_owned()) } else { Ok(()) }).await;
}

/// A zombie that init has not collected yet has no command line any more.
fn process_is_alive(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_dropped_child_is_stopped_in_order_and_its_last_words_are_kept() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done";
    let child = served.agent.spawn(&shell(script), &output).await.expect("starts");
    until_ends_with(&output, "ready\n").await;
    let pid = child.pid().expect("a pid");
    assert!(process_exists(pid));
    drop(child);
    until("its end", || if process_exists(pid) { Err("alive".to_owned()) } else { Ok(()) }).await;
    until_ends_with(&output, "ready\nbye\n").await;
}

#[tokio::test]
async fn a_dropped_child_that_ignores_its_stop_signal_is_killed() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let child = served.agent.spawn(&shell("trap '' TERM; echo ready; while :; do sleep 0.01; done"), &output).await.expect("starts");
    until_ends_with(&output, "ready\n").await;
    let pid = child.pid().expect("a pid");
    drop(child);
    until("its end", || if process_exists(pid) { Err("alive".to_owned()) } else { Ok(()) }).await;
}

#[tokio::test]
async fn waiting_can_be_given_up_and_taken_up_again() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = served.agent.spawn(&shell("read line; exit 4"), &directory.path().join("out")).await.expect("starts");
    // Its input is empty: it ends at once; until then, waiting is given up again and again.
    let status = loop {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => if let Some(status) = child.try_wait() { break status },
            status = child.wait() => break status.expect("told"),
        }
    };
    assert_eq!(status.code(), Some(4));
}

#[tokio::test]
async fn an_end_is_known_although_a_grandchild_holds_the_output() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let output = directory.path().join("out");
    let mut child = served.agent.spawn(&shell("sleep 1000 & echo $!; exit 5"), &output).await.expect("starts");
    let status = timeout(LIMIT, child.wait()).await.expect("known").expect("told");
    assert_eq!(status.code(), Some(5));
    let grandchild: i32 = std::fs::read_to_string(&output).expect("its words came first").trim().parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(grandchild), Signal::SIGKILL).expect("it is there");
}

#[tokio::test]
async fn lines_go_to_a_piped_child_and_come_back_and_its_errors_go_to_the_log() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let script = "while read line; do echo \"got $line\"; echo \"saw $line\" >&2; done; echo over; exit 6";
    let spec = ChildSpec { log: directory.path().join("log"), ..shell(script) };
    let (mut child, reader, mut writer) = served.agent.spawn_piped(&spec).await.expect("starts");
    let mut lines = BufReader::new(reader).lines();
    for word in ["one", "two"] {
        writer.write_all(format!("{word}\n").as_bytes()).await.expect("writes");
        let line = timeout(LIMIT, lines.next_line()).await.expect("in time").expect("reads");
        assert_eq!(line, Some(format!("got {word}")));
    }
    assert!(child.try_wait().is_none());
    drop(writer);
    assert_eq!(timeout(LIMIT, lines.next_line()).await.expect("in time").expect("reads").as_deref(), Some("over"));
    assert_eq!(timeout(LIMIT, lines.next_line()).await.expect("in time").expect("reads"), None, "its output ends with it");
    assert_eq!(timeout(LIMIT, child.wait()).await.expect("ends").expect("told").code(), Some(6));
    assert_eq!(std::fs::read_to_string(directory.path().join("log")).expect("there"), "saw one\nsaw two\n");
}

#[tokio::test]
async fn a_piped_child_that_reads_nothing_still_gets_its_signals() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let spec = ChildSpec { log: directory.path().join("log"), ..shell("exec sleep 1000") };
    let (mut child, _reader, mut writer) = served.agent.spawn_piped(&spec).await.expect("starts");
    // More than its pipe holds.
    timeout(LIMIT, writer.write_all(&vec![b'x'; 2_000_000])).await.expect("taken").expect("writes");
    assert_eq!(child.stop(LIMIT).await.expect("told").signal(), Some(SIGTERM));
}

#[tokio::test]
async fn a_child_runs_as_the_user_it_is_given() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let served = served().await;
    let user = os::user::RunAs { gid: 27, ..os::user::RunAs::alone(26) };
    let spec = ChildSpec { user: Some(user), ..shell("id -u; id -g; id -G") };
    let ran = served.agent.run(&spec, None, LIMIT).await.expect("runs");
    assert_eq!(ran.output(), "26\n27\n27");
}
