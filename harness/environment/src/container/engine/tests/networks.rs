//! Where containers are, and whom they reach.

use std::net::IpAddr;

use super::super::Attachment;
use super::{Rig, dial, on, serves};
use model::network::NetworkName;

#[tokio::test]
async fn containers_reach_one_another_over_common_networks_under_their_names_and_nothing_else() {
    let Some(rig) = Rig::new("containers_reach_one_another_over_common_networks").await else { return };
    let mut spec = rig.listener("server", 9000);
    spec.networks = vec![Attachment { network: NetworkName::Pods, host: Some(10) }, NetworkName::Elsewhere.into()];
    spec.aliases = vec!["nautobot-cluster-rw.nautobot.svc".to_owned()];
    let server = rig.start(spec).await;
    let mut spec = rig.idle("client");
    spec.networks = on([NetworkName::Pods, NetworkName::Sites, NetworkName::Gateway]);
    let client = rig.start(spec).await;
    serves(server.published(9000).await.expect("published")).await;

    let mut ranges = Vec::new();
    for (container, network, first, second) in [
        (&server, NetworkName::Pods, 10, 0..=255),
        (&server, NetworkName::Elsewhere, 192, 168..=168),
        (&client, NetworkName::Pods, 10, 0..=255),
        (&client, NetworkName::Sites, 172, 16..=31),
        (&client, NetworkName::Gateway, 10, 0..=255),
    ] {
        let IpAddr::V4(address) = container.address_in(network).expect("it is there") else { panic!("IPv4") };
        let octets = address.octets();
        assert!(octets[0] == first && second.contains(&octets[1]), "{network}: {address}");
        let prefix = format!("{}.{}.{}.", octets[0], octets[1], octets[2]);
        assert_eq!(rig.scope.range(network), format!("{prefix}0/24"));
        ranges.push(prefix);
    }
    assert_eq!(ranges[0], ranges[2], "both are pods");
    assert_ne!(ranges[2], ranges[4], "the gateway has a range of its own");
    assert!(server.address_in(NetworkName::Pods).expect("there").to_string().ends_with(".10"), "as wanted");

    let from = format!("connected {}", client.address_in(NetworkName::Pods).expect("there"));
    assert_eq!(dial(&rig.engine, &client, server.address_in(NetworkName::Pods).expect("there"), 9000).await, from);
    assert_eq!(dial(&rig.engine, &client, "nautobot-cluster-rw.nautobot.svc", 9000).await, from);
    // The port is open there too, and the client is not on that network.
    assert_eq!(dial(&rig.engine, &client, server.address_in(NetworkName::Elsewhere).expect("there"), 9000).await, "TimeoutError");
    assert_eq!(dial(&rig.engine, &client, "no-such-name.nautobot.svc", 9000).await, "gaierror");
    let control = control_address(&rig, server.engine_name()).await;
    assert_eq!(dial(&rig.engine, &client, control, 9000).await, "TimeoutError", "no way over the control network");
    // Documentation addresses, which nobody has: a packet that left would find no way back, so look at how it fails.
    assert_eq!(dial(&rig.engine, &client, "198.51.100.1", 80).await, "TimeoutError", "no way outside");
    rig.close().await;
}

/// A container's address in the control network.
pub(super) async fn control_address(rig: &Rig, name: &str) -> String {
    let inspected = rig.engine.docker().inspect_container(name, None).await.expect("looks");
    let networks = inspected.network_settings.and_then(|settings| settings.networks).expect("networks");
    let network = &rig.scope.shared.networks.control.name;
    networks.get(network).and_then(|endpoint| endpoint.ip_address.clone()).expect("an address")
}
