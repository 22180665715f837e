//! Files that are followed.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::libc::ENOENT;

use super::{served, until, until_ends_with};

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).expect("opens").write_all(bytes).expect("writes");
}

#[tokio::test]
async fn pieces_of_lines_arrive_as_they_are_written() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (remote, local) = (directory.path().join("remote"), directory.path().join("local"));
    std::fs::write(&remote, "there before\n").expect("writes");
    // What was followed until the container was started again.
    std::fs::write(&local, "there ").expect("writes");
    let follower = served.agent.follow(&remote, &local).await.expect("follows");
    until_ends_with(&local, "before\n").await;
    assert_eq!(std::fs::read_to_string(&local).expect("reads"), "there before\n", "nothing twice");
    append(&remote, b"half a li");
    until_ends_with(&local, "half a li").await;
    append(&remote, b"ne\n");
    until_ends_with(&local, "half a line\n").await;
    assert!(!follower.has_ended());
    drop(follower);
}

#[tokio::test]
async fn a_follower_whose_place_here_is_full_has_ended() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let remote = directory.path().join("remote");
    std::fs::write(&remote, "there before\n").expect("writes");
    let follower = served.agent.follow(&remote, Path::new("/dev/full")).await.expect("follows");
    until("its end", || if follower.has_ended() { Ok(()) } else { Err("it goes on".to_owned()) }).await;
}

#[tokio::test]
async fn a_lot_arrives_whole_and_a_line_within_milliseconds() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (remote, local) = (directory.path().join("remote"), directory.path().join("local"));
    std::fs::write(&remote, "").expect("writes");
    let _follower = served.agent.follow(&remote, &local).await.expect("follows");
    let block = vec![b'x'; 100_000];
    for _ in 0..200 {
        append(&remote, &block);
    }
    append(&remote, b"end\n");
    let is_whole = || {
        let length = std::fs::metadata(&local).map_err(|error| error.to_string())?.len();
        if length == 20_000_004 { Ok(()) } else { Err(format!("{length} bytes")) }
    };
    until("all of it", is_whole).await;
    assert!(std::fs::read(&local).expect("reads") == std::fs::read(&remote).expect("reads"));
    let mut times: Vec<Duration> = Vec::new();
    for number in 0..50 {
        let line = format!("line {number}\n");
        let start = Instant::now();
        append(&remote, line.as_bytes());
        until_ends_with_tail(&local, &line).await;
        times.push(start.elapsed());
    }
    times.sort();
    assert!(times[times.len() / 2] < Duration::from_millis(20), "half of the lines take {:?}", times[times.len() / 2]);
}

/// Looks at the end of a long file only.
async fn until_ends_with_tail(path: &Path, line: &str) {
    until("the line", || {
        let last = os::child::tail(path, 1);
        if last == line.trim() { Ok(()) } else { Err(last.chars().rev().take(40).collect::<String>()) }
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_missing_is_named() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let error = served.agent.follow("/nonexistent/log".as_ref(), &directory.path().join("local")).await.expect_err("nothing to follow");
    assert!(error.to_string().contains("/nonexistent/log"), "{error}");
    assert_eq!(error.errno(), Some(ENOENT));
}

#[tokio::test]
async fn a_dropped_follower_copies_no_more() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (remote, local, second) = (directory.path().join("remote"), directory.path().join("local"), directory.path().join("second"));
    std::fs::write(&remote, "one\n").expect("writes");
    let follower = served.agent.follow(&remote, &local).await.expect("follows");
    until_ends_with(&local, "one\n").await;
    drop(follower);
    let _other = served.agent.follow(&remote, &second).await.expect("follows");
    append(&remote, b"two\n");
    until_ends_with(&second, "one\ntwo\n").await;
    assert_eq!(std::fs::read_to_string(&local).expect("there"), "one\n");
}
