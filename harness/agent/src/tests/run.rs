//! Programs that run to their end, and what is installed.

use std::time::{Duration, Instant};

use nix::libc::ENOENT;

use super::{LIMIT, process_exists, served, shell, until};
use os::child::ChildSpec;
use os::toolchain::Toolchain;

#[tokio::test]
async fn a_program_gets_its_input_and_gives_output_errors_and_status() {
    let served = served().await;
    let ran = served.agent.run(&shell("cat; echo oops >&2; exit 9"), Some("in\n"), LIMIT).await.expect("runs");
    assert_eq!((ran.status.code(), ran.stdout.as_slice(), ran.stderr.as_slice()), (Some(9), &b"in\n"[..], &b"oops\n"[..]));
    let ran = served.agent.run(&shell("cat"), None, LIMIT).await.expect("an absent input is an empty one");
    assert!(ran.status.success() && ran.stdout.is_empty());
    let error = served.agent.run(&ChildSpec::new("/nonexistent/psql", "unused"), None, LIMIT).await.expect_err("can't start");
    assert_eq!(error.errno(), Some(ENOENT));
}

#[tokio::test]
async fn a_program_that_reads_nothing_and_one_that_writes_a_lot_get_to_their_ends() {
    let served = served().await;
    let input = "x".repeat(1_000_000);
    let ran = served.agent.run(&shell("echo done"), Some(&input), LIMIT).await.expect("runs");
    assert_eq!(ran.output(), "done");
    let ran = served.agent.run(&shell("cat; cat >&2 < /dev/null"), Some(&input), LIMIT).await.expect("runs");
    assert_eq!(ran.stdout.len(), 1_000_000);
    let error = served.agent.run(&shell("head -c 9000000 /dev/zero"), None, LIMIT).await.expect_err("too much");
    assert!(error.to_string().contains("wrote more than"), "{error}");
}

#[tokio::test]
async fn a_program_that_does_not_end_is_stopped_and_the_end_of_its_output_is_told() {
    let served = served().await;
    let start = Instant::now();
    let script = "echo $$ >&2; echo waiting for something >&2; exec sleep 1000";
    let error = served.agent.run(&shell(script), None, Duration::from_millis(300)).await.expect_err("its time is over");
    assert!(start.elapsed() < LIMIT);
    let text = error.to_string();
    assert!(text.contains("waiting for something") && text.contains("300ms"), "{text}");
    let pid: u32 = text.lines().next().and_then(|line| line.rsplit(' ').next()).expect("a word").parse().expect("a pid");
    assert!(!process_exists(pid), "{text}");
}

#[tokio::test]
async fn giving_up_stops_the_program() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let mark = directory.path().join("pid");
    let spec = shell(&format!("echo $$ > {}; exec sleep 1000", mark.display()));
    let agent = served.agent.clone();
    let running = tokio::spawn(async move { agent.run(&spec, None, LIMIT * 10).await });
    super::until_ends_with(&mark, "\n").await;
    let pid: u32 = std::fs::read_to_string(&mark).expect("there").trim().parse().expect("a pid");
    assert!(process_exists(pid));
    running.abort();
    until("its end", || if process_exists(pid) { Err("alive".to_owned()) } else { Ok(()) }).await;
}

#[tokio::test]
async fn the_survey_finds_what_this_machine_has() {
    let served = served().await;
    let survey = served.agent.survey().await.expect("told");
    let here = Toolchain::find("/nonexistent".as_ref());
    let builds = |toolchain: &Toolchain| {
        toolchain.postgres.iter().map(|build| (build.major, build.version.clone(), build.bin.clone())).collect::<Vec<_>>()
    };
    assert_eq!(builds(&survey.toolchain), builds(&here));
    assert_eq!((survey.toolchain.redis, survey.toolchain.openssl), (here.redis, here.openssl));
    assert!(survey.toolchain.postgres.iter().all(|build| build.origin == "image"));
    if let Some(python) = survey.python {
        let says = std::process::Command::new(&python.interpreter).arg("--version").output().expect("runs");
        assert_eq!(String::from_utf8_lossy(&says.stdout).trim(), format!("Python {}", python.version));
    }
    assert_eq!(survey.users.is_empty(), !nix::unistd::geteuid().is_root());
    assert!(survey.users.iter().all(|user| user.uid != 0), "{:?}", survey.users);
    assert!(survey.interfaces.iter().all(|interface| !interface.address.is_loopback()));
    assert!(!survey.release.is_empty());
}
