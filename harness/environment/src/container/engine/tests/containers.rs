//! Starting containers, and what is in them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bollard::models::ContainerConfig;
use bollard::query_parameters::{CommitContainerOptionsBuilder, InspectContainerOptions, ListVolumesOptions, RemoveImageOptions};

use super::super::{EngineError, FileSpec, HARNESS, ImageFound, TOKEN_FILE, labels};
use super::{ContainerSpec, HARNESS_SAYS, Rig, on, serves, sh};
use model::network::NetworkName;
use os::owner::Owner;

#[tokio::test]
async fn a_container_has_the_harness_the_token_its_files_and_both_loopback_addresses() {
    let Some(rig) = Rig::new("a_container_has_the_harness_the_token_its_files").await else { return };
    let mut spec = rig.idle("files");
    spec.files = vec![
        FileSpec { path: "/controller/certificates/server.key".to_owned(), bytes: b"key".to_vec(), mode: 0o600 },
        FileSpec { path: "/open".to_owned(), bytes: b"open".to_vec(), mode: 0o644 },
    ];
    spec.tmpfs = vec!["/memory".to_owned()];
    assert!(!format!("{spec:?}").contains("107, 101, 121"), "no content of a file is printed: {spec:?}");
    let container = rig.start(spec).await;
    assert!(container.is_running().await.expect("tells"));
    let (code, said) = sh(&rig.engine, &container, HARNESS).await;
    assert_eq!((code, said.trim()), (0, HARNESS_SAYS));
    let script = format!("stat -c '%n %a %u:%g' {TOKEN_FILE} /controller/certificates/server.key /open && cat {TOKEN_FILE} /open");
    let (code, said) = sh(&rig.engine, &container, &script).await;
    let expected = format!("{TOKEN_FILE} 600 0:0\n/controller/certificates/server.key 600 0:0\n/open 644 0:0\nsecretopen");
    assert_eq!((code, said.as_str()), (0, expected.as_str()));
    let (code, said) = sh(&rig.engine, &container, &format!("echo broken > {HARNESS}")).await;
    assert_ne!(code, 0, "the volume is read-only: {said}");
    let (_, said) = sh(&rig.engine, &container, "grep -c '^tmpfs /memory ' /proc/mounts; cat /proc/1/comm; cat /proc/net/if_inet6").await;
    assert!(said.starts_with("1\n"), "{said}");
    assert!(said.contains("docker-init") || said.contains("tini"), "{said}");
    assert!(said.contains(" lo\n"), "::1 is there: {said}");
    rig.close().await;
}

#[tokio::test]
async fn everything_of_a_run_carries_its_labels() {
    let Some(rig) = Rig::new("everything_of_a_run_carries_its_labels").await else { return };
    let container = rig.start(rig.idle("labels")).await;
    let expected = labels::of_run(rig.scope.run(), &Owner::current().expect("/proc"));
    let docker = rig.engine.docker();
    let inspected = docker.inspect_container(container.engine_name(), None::<InspectContainerOptions>).await.expect("looks");
    let mut all = vec![inspected.config.and_then(|config| config.labels).expect("labels")];
    let networks = &rig.scope.shared.networks;
    for network in networks.named.values().chain([&networks.control]) {
        all.push(docker.inspect_network(&network.name, None).await.expect("looks").labels.expect("labels"));
    }
    all.push(docker.inspect_volume(&rig.scope.shared.volume).await.expect("looks").labels);
    assert_eq!(all.len(), 2 + NetworkName::ALL.len() + 1, "container, volume, networks and the control network");
    for labels in all {
        let missing: Vec<_> = expected.iter().filter(|(name, value)| labels.get(*name) != Some(*value)).collect();
        assert!(missing.is_empty(), "{missing:?} are not in {labels:?}");
    }
    rig.close().await;
}

#[tokio::test]
async fn ports_are_published_on_loopback_alone_and_only_those_that_are_named() {
    let Some(rig) = Rig::new("ports_are_published_on_loopback_alone").await else { return };
    let mut spec = rig.listener("published", 9000);
    // Otherwise only what is published by name could be seen.
    spec.image = with_declarations(&rig, "published", &["EXPOSE 9001"]).await;
    let image = spec.image.clone();
    let container = rig.start(spec).await;
    let address = container.published(9000).await.expect("published");
    assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    serves(address).await;
    let error = container.published(9001).await.expect_err("not asked for");
    assert!(error.to_string().contains("port 9001"), "{error}");
    let inspected = rig.engine.docker().inspect_container(container.engine_name(), None::<InspectContainerOptions>).await.expect("looks");
    let ports = inspected.network_settings.and_then(|settings| settings.ports).expect("ports");
    let bindings: Vec<_> = ports.into_values().flatten().flatten().collect();
    assert_eq!(bindings.len(), 1, "{bindings:?}");
    container.remove().await.expect("removes");
    rig.engine.docker().remove_image(&image.id, None::<RemoveImageOptions>, None).await.expect("removes");
    rig.close().await;
}

#[tokio::test]
async fn a_volume_that_the_image_declares_is_in_memory_instead() {
    let Some(rig) = Rig::new("a_volume_that_the_image_declares_is_in_memory_instead").await else { return };
    let image = with_declarations(&rig, "volumes", &["VOLUME /declared"]).await;
    assert_eq!(image.volumes, ["/declared"]);
    let container = rig.start(ContainerSpec::new("volumes", image.clone(), ["sleep", "1000"])).await;
    let inspected = rig.engine.docker().inspect_container(container.engine_name(), None::<InspectContainerOptions>).await.expect("looks");
    let volumes: Vec<_> = inspected.mounts.into_iter().flatten().filter_map(|mount| mount.name).collect();
    assert_eq!(volumes, std::slice::from_ref(&rig.scope.shared.volume), "no other volume");
    let (_, said) = sh(&rig.engine, &container, "grep -c '^tmpfs /declared ' /proc/mounts").await;
    assert_eq!(said.trim(), "1");
    let mut hidden = ContainerSpec::new("hidden", image.clone(), ["sleep", "1000"]);
    hidden.files = vec![FileSpec { path: "/declared/file".to_owned(), bytes: Vec::new(), mode: 0o600 }];
    let error = rig.scope.start(hidden).await.expect_err("it would not be seen");
    assert!(matches!(error, EngineError::Misuse(_)) && error.to_string().contains("/declared/file"), "{error}");
    container.remove().await.expect("removes");
    rig.engine.docker().remove_image(&image.id, None::<RemoveImageOptions>, None).await.expect("removes");
    rig.close().await;
}

/// An image of the rig's with further instructions.
async fn with_declarations(rig: &Rig, name: &str, changes: &[&str]) -> ImageFound {
    let base = rig.start(rig.idle(&format!("{name}-base"))).await;
    let reference = format!("mtls-conformance/{}-{name}", rig.scope.run());
    let options = CommitContainerOptionsBuilder::new().container(base.engine_name()).repo(&reference).changes(&changes.join("\n")).build();
    // The labels of the container would make it look as if it were ours after the run.
    rig.engine.docker().commit_container(options, ContainerConfig::default()).await.expect("commits");
    base.remove().await.expect("removes");
    rig.engine.resolve(&[reference]).await.expect("it is there")
}

#[tokio::test]
async fn a_container_that_can_not_start_is_told_with_the_reason_and_leaves_nothing() {
    let Some(rig) = Rig::new("a_container_that_can_not_start_is_told").await else { return };
    let mut spec = rig.idle("broken");
    spec.tmpfs = vec!["relative".to_owned()];
    let text = rig.scope.start(spec).await.expect_err("the engine refuses it").to_string();
    assert!(text.contains("absolute") && text.contains(&rig.image.reference), "{text}");
    let mut gone = rig.idle("broken");
    gone.image.id = format!("sha256:{}", "0".repeat(64));
    let error = rig.scope.start(gone).await.expect_err("the image is gone");
    assert!(matches!(error, EngineError::NoImage { .. }), "{error}");
    // The name is free again.
    let mut spec = ContainerSpec::new("broken", rig.image.clone(), ["sh", "-c", "echo out; echo err >&2; exec /no/such/program"]);
    spec.networks = on([NetworkName::Pods, NetworkName::Sites, NetworkName::Elsewhere]);
    // Connecting takes longer than a shell; where it does not, the end comes a little later.
    let (code, logs) = match rig.scope.start(spec).await {
        Err(EngineError::Start { reason, log, .. }) => (reason, log),
        Err(error) => panic!("{error}"),
        Ok(container) => {
            let code = os::poll::until("the end", Duration::from_secs(10), Duration::from_millis(20), || async {
                container.exit_code().await.expect("tells").ok_or_else(|| "it runs".to_owned())
            });
            let code = format!("exit code {}", code.await.expect("it ends"));
            assert!(!container.is_running().await.expect("tells"));
            (code, container.logs().await)
        }
    };
    assert!(code.ends_with("exit code 127"), "{code}");
    let lines: BTreeSet<&str> = logs.lines().collect();
    assert!(lines.contains("out") && lines.contains("err") && logs.contains("/no/such/program"), "{logs}");
    let container = rig.start(rig.idle("broken")).await;
    let error = rig.scope.start(rig.idle("broken")).await.expect_err("the name is in use");
    assert!(error.to_string().contains("already"), "{error}");
    assert!(container.address_in(NetworkName::Pods).is_none());
    rig.close().await;
}

#[tokio::test]
async fn a_dropped_container_is_removed_in_the_background() {
    let Some(rig) = Rig::new("a_dropped_container_is_removed_in_the_background").await else { return };
    let mut spec = rig.idle("dropped");
    spec.networks = on([NetworkName::Pods]);
    let container = rig.start(spec.clone()).await;
    let before = std::time::Instant::now();
    drop(container);
    assert!(before.elapsed() < Duration::from_millis(50), "{:?}", before.elapsed());
    os::poll::until("its name", Duration::from_secs(10), Duration::from_millis(20), || async {
        rig.scope.start(spec.clone()).await.map_err(|error| error.to_string())
    })
    .await
    .expect("name and address are free");
    let volumes = rig.engine.docker().list_volumes(None::<ListVolumesOptions>).await.expect("lists");
    assert!(volumes.volumes.into_iter().flatten().any(|volume| volume.name == rig.scope.shared.volume), "the run's volume is not removed");
    rig.close().await;
}
