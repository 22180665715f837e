//! Reaching the engine, and its images.

use std::time::Instant;

use bollard::{API_DEFAULT_VERSION, Docker};
use nix::unistd::{Uid, setfsuid};
use tokio::net::UnixListener;

use super::super::client::check_socket;
use super::super::{Engine, EngineError, limits};
use super::{IMAGES, engine_and_image};

#[tokio::test]
async fn without_an_engine_the_error_says_where_it_was_looked_for_and_how_to_start_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("docker.sock");
    let host = format!("unix://{}", path.display());
    let error = check_socket(&host).await.expect_err("nobody is there");
    assert!(matches!(error, EngineError::Absent { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&host) && text.contains("No such file") && text.contains("systemctl start docker"), "{text}");
    drop(UnixListener::bind(&path).expect("binds"));
    let text = check_socket(&host).await.expect_err("nobody listens").to_string();
    assert!(text.contains("refused"), "{text}");
}

#[tokio::test]
async fn an_engine_that_may_be_on_another_machine_is_refused_before_anything_is_sent_to_it() {
    for host in ["tcp://127.0.0.1:1", "ssh://user@engine.example", "http://127.0.0.1:1", "npipe:////./pipe/docker_engine"] {
        let error = check_socket(host).await.expect_err("refused");
        assert!(matches!(error, EngineError::Remote { .. }), "{error:?}");
        assert!(error.to_string().contains(host) && error.to_string().contains("unix://"), "{error}");
    }
}

#[tokio::test]
async fn an_engine_that_does_not_answer_counts_as_absent_soon() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("docker.sock");
    let _mute = UnixListener::bind(&path).expect("binds");
    let host = format!("unix://{}", path.display());
    check_socket(&host).await.expect("somebody listens");
    let docker = Docker::connect_with_unix(&host, 120, API_DEFAULT_VERSION).expect("the socket is there");
    let start = Instant::now();
    let error = Engine::answering(docker, host).await.expect_err("it is mute");
    assert!(matches!(error, EngineError::Absent { .. }), "{error:?}");
    assert!(start.elapsed() < 2 * limits::PING, "{:?}", start.elapsed());
}

#[tokio::test]
async fn an_engine_that_is_not_for_this_user_is_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("docker.sock");
    let _listener = UnixListener::bind(&path).expect("binds");
    if !Uid::effective().is_root() {
        // Our own permissions are enough then.
        std::os::unix::fs::chown(&path, None, None).expect("chown");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000)).expect("chmod");
    }
    // Of this thread alone, which also connects: the runtime has no other.
    let before = setfsuid(Uid::from_raw(64_000));
    let result = check_socket(&format!("unix://{}", path.display())).await;
    setfsuid(before);
    let error = result.expect_err("permission denied");
    assert!(matches!(error, EngineError::Denied { .. }), "{error:?}");
    assert!(error.to_string().contains("group `docker`"), "{error}");
}

#[tokio::test]
async fn doctor_is_told_version_interface_storage_and_place() {
    let Some((engine, _)) = engine_and_image("doctor_is_told_version_interface_storage_and_place").await else { return };
    let info = engine.info().await.expect("it tells");
    for value in [&info.version, &info.api] {
        assert!(value.starts_with(|first: char| first.is_ascii_digit()), "{info:?}");
    }
    assert_ne!(info.storage, "unknown");
    assert!(info.host.contains("://"), "{info:?}");
}

#[tokio::test]
async fn the_first_candidate_that_is_there_is_taken_and_one_that_is_nowhere_is_tried_once() {
    let Some((engine, image)) = engine_and_image("the_first_candidate_that_is_there_is_taken").await else { return };
    // A registry of this machine, where nobody listens.
    let nowhere = "127.0.0.1:1/mtls-conformance/nothing:1";
    assert!(!engine.present(nowhere).await.expect("it tells"));
    let mut candidates = vec![nowhere];
    candidates.extend(IMAGES);
    let found = engine.resolve(&candidates).await.expect("one is there");
    assert_eq!(found, image);
    assert!(found.id.starts_with("sha256:"), "{found:?}");
    let error = engine.resolve(&[nowhere]).await.expect_err("it is nowhere").to_string();
    assert!(error.contains(nowhere) && error.contains("refused") && error.contains("kind/images/build.sh"), "{error}");
    let start = Instant::now();
    let again = engine.resolve(&[nowhere]).await.expect_err("it is still nowhere").to_string();
    assert_eq!(again, error, "the first try's reason");
    assert_eq!(engine.inner.failed_pulls.lock().await.len(), 1);
    assert!(start.elapsed() < limits::LOOK);
}
