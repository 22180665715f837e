//! Nothing is left, and what is left is told.

use std::collections::BTreeSet;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, NetworkCreateRequest, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveVolumeOptions};

use super::super::removal::remove_container;
use super::super::{EngineError, Kind, Scope, labels, limits, reap};
use super::{Rig, all_of, engine_and_image, options};
use os::owner::Owner;

#[tokio::test]
async fn closing_removes_running_paused_and_dead_containers_networks_and_volume() {
    let Some(rig) = Rig::new("closing_removes_running_paused_and_dead_containers").await else { return };
    let running = rig.start(rig.idle("running")).await;
    let paused = rig.start(rig.idle("paused")).await;
    paused.pause().await.expect("pauses");
    let dead = rig.start(rig.idle("dead")).await;
    dead.kill().await.expect("kills");
    assert_eq!(all_of(&rig.engine, rig.scope.run()).await.len(), 3 + 5 + 1);
    let scope = rig.scope.clone();
    let late = rig.idle("late");
    rig.close().await;
    let error = scope.start(late).await.expect_err("the run is over");
    assert!(matches!(error, EngineError::Misuse(_)), "{error}");
    drop((running, paused, dead));
    assert_eq!(scope.close().await, [], "closing twice is fine");
}

#[tokio::test]
async fn what_can_not_be_removed_is_told_as_a_leak_and_what_is_not_ours_stays() {
    let Some(rig) = Rig::new("what_can_not_be_removed_is_told_as_a_leak").await else { return };
    let run = rig.scope.run().to_owned();
    let (volume, foreign) = (format!("mtls-conformance-{run}-planted"), format!("foreign-{run}"));
    let request =
        VolumeCreateRequest { name: Some(volume.clone()), labels: Some(rig.scope.shared.labels.clone()), ..VolumeCreateRequest::default() };
    rig.engine.docker().create_volume(request).await.expect("makes");
    // Uses the volume, and carries no label.
    let mount = Mount { typ: Some(MountType::VOLUME), source: Some(volume.clone()), target: Some("/used".to_owned()), ..Mount::default() };
    let body = ContainerCreateBody {
        image: Some(rig.image.id.clone()),
        cmd: Some(vec!["sleep".to_owned()]),
        host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let create = CreateContainerOptionsBuilder::new().name(&foreign).build();
    rig.engine.docker().create_container(Some(create), body).await.expect("makes");
    let leaks = rig.scope.close().await;
    let left = all_of(&rig.engine, &run).await;
    remove_container(&rig.engine, &foreign).await.expect("removes");
    rig.engine.docker().remove_volume(&volume, None::<RemoveVolumeOptions>).await.expect("removes");
    assert_eq!(left, [format!("/{foreign}"), volume.clone()].into(), "the rest is removed");
    assert_eq!(leaks.len(), 1, "{leaks:?}");
    assert_eq!((leaks[0].kind, &leaks[0].name), (Some(Kind::Volume), &volume));
    let line = leaks[0].to_string();
    assert!(line.contains("volume is in use") && line.contains(&format!("docker volume rm {volume}")), "{line}");
}

#[tokio::test]
async fn a_sweep_removes_what_dead_processes_left_and_spares_the_living() {
    let Some((engine, image)) = engine_and_image("a_sweep_removes_what_dead_processes_left").await else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let options = options(&directory);
    let mut child = std::process::Command::new("true").spawn().expect("starts");
    child.wait().expect("ends");
    let living = Owner::current().expect("/proc");
    let dead = Owner { pid: child.id().to_string(), ..living.clone() };
    let elsewhere = Owner { host: "another-host".to_owned(), ..dead.clone() };
    let name = |kind: &str, owner: &str| format!("mtls-conformance-{}-{kind}-{owner}", options.run);
    for (who, owner) in [("living", &living), ("dead", &dead), ("elsewhere", &elsewhere)] {
        let labels = labels::of_run(&options.run, owner);
        let volume = name("volume", who);
        let request = VolumeCreateRequest { name: Some(volume.clone()), labels: Some(labels.clone()), ..VolumeCreateRequest::default() };
        engine.docker().create_volume(request).await.expect("makes");
        let request = NetworkCreateRequest { name: name("network", who), labels: Some(labels.clone()), ..NetworkCreateRequest::default() };
        engine.docker().create_network(request).await.expect("makes");
        let mount = Mount { typ: Some(MountType::VOLUME), source: Some(volume), target: Some("/used".to_owned()), ..Mount::default() };
        let body = ContainerCreateBody {
            image: Some(image.id.clone()),
            cmd: Some(vec!["sleep".to_owned(), "1000".to_owned()]),
            labels: Some(labels),
            host_config: Some(HostConfig { mounts: Some(vec![mount]), ..HostConfig::default() }),
            ..ContainerCreateBody::default()
        };
        let container = name("container", who);
        let create = CreateContainerOptionsBuilder::new().name(&container).build();
        engine.docker().create_container(Some(create), body).await.expect("makes");
        engine.docker().start_container(&container, None).await.expect("starts");
    }
    let swept = engine.sweep().await.expect("sweeps");
    let left = all_of(&engine, &options.run).await;
    super::super::removal::remove_run(&engine, &options.run).await;
    // Other tests' orphans may have been swept as well.
    let removed: BTreeSet<String> = swept.removed.into_iter().filter(|name| name.contains(&options.run)).collect();
    assert_eq!(removed, ["container", "network", "volume"].map(|kind| name(kind, "dead")).into());
    assert_eq!(swept.left, []);
    let kept: BTreeSet<String> = ["living", "elsewhere"]
        .into_iter()
        .flat_map(|who| [format!("/{}", name("container", who)), name("network", who), name("volume", who)])
        .collect();
    assert_eq!(left, kept);
}

#[tokio::test]
async fn the_watcher_removes_what_a_killed_harness_has_left() {
    let Some(rig) = Rig::new("the_watcher_removes_what_a_killed_harness_has_left").await else { return };
    let container = rig.start(rig.idle("left")).await;
    let run = rig.scope.run().to_owned();
    // A start that is under way when the harness dies.
    let late = {
        let (scope, spec) = (rig.scope.clone(), rig.idle("late"));
        tokio::spawn(async move { scope.start(spec).await.map(std::mem::forget) })
    };
    tokio::task::spawn_blocking({
        let run = run.clone();
        move || reap(&run)
    })
    .await
    .expect("no panic");
    let _ = late.await.expect("no panic");
    assert_eq!(all_of(&rig.engine, &run).await, BTreeSet::new());
    drop(container);
    rig.close().await;
}

#[tokio::test]
async fn a_scope_that_can_not_be_opened_leaves_nothing() {
    let Some((engine, _)) = engine_and_image("a_scope_that_can_not_be_opened_leaves_nothing").await else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let options = options(&directory);
    let bad = Scope::open(&engine, super::ScopeOptions { run: "not a name".to_owned(), ..options.clone() }).await.expect_err("refused");
    assert!(matches!(bad, EngineError::Misuse(_)), "{bad}");
    let cancelled = tokio::time::timeout(std::time::Duration::from_millis(30), Scope::open(&engine, options.clone())).await;
    drop(cancelled);
    tokio::task::spawn_blocking({
        let run = options.run.clone();
        move || reap(&run)
    })
    .await
    .expect("no panic");
    assert_eq!(all_of(&engine, &options.run).await, BTreeSet::new());
}

#[test]
fn reaping_without_a_runtime_works() {
    // As the watcher calls it.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let there = runtime.block_on(engine_and_image("reaping_without_a_runtime_works"));
    drop(runtime);
    if there.is_some() {
        let before = std::time::Instant::now();
        reap("no-such-run");
        assert!(before.elapsed() < limits::REAP, "nothing is soon believed");
    }
}
