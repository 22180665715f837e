//! Killing, pausing and cutting off.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Rig, dial, on, serves};
use model::network::NetworkName;

#[tokio::test]
async fn a_killed_container_starts_again_at_the_same_addresses() {
    let Some(rig) = Rig::new("a_killed_container_starts_again_at_the_same_addresses").await else { return };
    let mut spec = rig.listener("server", 9000);
    spec.networks = on([NetworkName::Pods, NetworkName::Elsewhere]);
    let server = rig.start(spec).await;
    let mut spec = rig.idle("client");
    spec.networks = on([NetworkName::Pods]);
    let client = rig.start(spec).await;
    let address = server.address_in(NetworkName::Pods).expect("there");
    serves(server.published(9000).await.expect("published")).await;
    server.kill().await.expect("kills");
    assert!(!server.is_running().await.expect("tells"));
    server.kill().await.expect("killing what is dead is fine");
    let error = server.published(9000).await.expect_err("nothing is published");
    assert!(error.to_string().contains("runs: Some(false)"), "{error}");
    server.start_again().await.expect("starts");
    assert!(server.is_running().await.expect("tells"));
    serves(server.published(9000).await.expect("published")).await;
    assert!(dial(&rig.engine, &client, address, 9000).await.starts_with("connected"));
    rig.close().await;
}

#[tokio::test]
async fn a_paused_container_answers_nothing_until_it_goes_on() {
    let Some(rig) = Rig::new("a_paused_container_answers_nothing_until_it_goes_on").await else { return };
    let server = rig.start(rig.listener("server", 9000)).await;
    let address = server.published(9000).await.expect("published");
    serves(address).await;
    server.pause().await.expect("pauses");
    assert!(server.is_running().await.expect("tells"), "paused is not ended");
    // The kernel takes the connection, and nobody answers.
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.write_all(b"HEAD / HTTP/1.0\r\n\r\n").await.expect("writes");
    let mut byte = [0];
    tokio::time::timeout(Duration::from_millis(500), stream.read(&mut byte)).await.expect_err("no answer");
    server.unpause().await.expect("goes on");
    assert_eq!(stream.read(&mut byte).await.expect("an answer"), 1);
    server.pause().await.expect("pauses");
    server.kill().await.expect("a paused one can be killed");
    server.start_again().await.expect("starts");
    serves(server.published(9000).await.expect("published")).await;
    server.pause().await.expect("pauses");
    // A paused one can be removed.
    rig.close().await;
}

#[tokio::test]
async fn a_container_that_is_cut_off_is_reached_by_the_harness_alone_until_it_is_mended() {
    let Some(rig) = Rig::new("a_container_that_is_cut_off_is_reached_by_the_harness_alone").await else { return };
    let mut spec = rig.listener("server", 9000);
    spec.networks = on([NetworkName::Pods, NetworkName::Sites]);
    spec.aliases = vec!["server.svc".to_owned()];
    let server = rig.start(spec).await;
    let mut spec = rig.idle("client");
    spec.networks = on([NetworkName::Pods]);
    let client = rig.start(spec).await;
    let address = server.address_in(NetworkName::Pods).expect("there");
    let published = server.published(9000).await.expect("published");
    serves(published).await;
    assert!(dial(&rig.engine, &client, address, 9000).await.starts_with("connected"));
    server.mend().await.expect("what is not cut off is whole");
    server.cut().await.expect("cuts");
    server.cut().await.expect("cut off already is fine");
    let refused = dial(&rig.engine, &client, address, 9000).await;
    assert!(["TimeoutError", "OSError"].contains(&refused.as_str()), "{refused}");
    assert_eq!(dial(&rig.engine, &client, "server.svc", 9000).await, "gaierror");
    assert_eq!(server.published(9000).await.expect("still published"), published);
    serves(published).await;
    // Nobody else gets its address meanwhile.
    let mut spec = rig.idle("other");
    spec.networks = on([NetworkName::Pods]);
    let other = rig.start(spec).await;
    assert_ne!(other.address_in(NetworkName::Pods), Some(address));
    server.mend().await.expect("mends");
    assert_eq!(server.address_in(NetworkName::Pods), Some(address));
    assert!(dial(&rig.engine, &client, address, 9000).await.starts_with("connected"));
    assert!(dial(&rig.engine, &client, "server.svc", 9000).await.starts_with("connected"));
    // Killed while it is cut off, it stays cut off.
    server.cut().await.expect("cuts");
    server.kill().await.expect("kills");
    server.start_again().await.expect("starts");
    serves(server.published(9000).await.expect("published")).await;
    let refused = dial(&rig.engine, &client, address, 9000).await;
    assert!(["TimeoutError", "OSError"].contains(&refused.as_str()), "{refused}");
    server.mend().await.expect("mends");
    assert!(dial(&rig.engine, &client, address, 9000).await.starts_with("connected"));
    rig.close().await;
}
