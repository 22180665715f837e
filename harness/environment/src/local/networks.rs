//! Networks on loopback: every address of 127.0.0.0/8 is this machine's own, so that a range of it stands for a network.

use std::net::{IpAddr, Ipv4Addr};

use model::network::{Network, NetworkName, Networks};

/// The gateway's own address, which the servers see: none that a client has, so that it can't be mistaken for one.
pub(super) const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1));

/// Name, range, and the address of a client in it.
const NETWORKS: [(NetworkName, &str, IpAddr); 4] = [
    (NetworkName::Pods, "127.10.0.0/16", IpAddr::V4(Ipv4Addr::new(127, 10, 0, 7))),
    (NetworkName::Sites, "127.20.0.0/16", IpAddr::V4(Ipv4Addr::new(127, 20, 0, 7))),
    (NetworkName::Elsewhere, "127.30.0.0/16", IpAddr::V4(Ipv4Addr::new(127, 30, 0, 7))),
    (NetworkName::Gateway, "127.77.0.0/16", GATEWAY),
];

pub(super) fn of_loopback() -> Networks {
    let network = |(name, range, client): (NetworkName, &str, IpAddr)| (name, Network { range: range.to_owned(), client });
    Networks(NETWORKS.into_iter().map(network).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_has_a_range_of_its_own_and_its_client_is_in_it() {
        let Networks(networks) = of_loopback();
        assert_eq!(networks.keys().copied().collect::<Vec<_>>(), NetworkName::ALL);
        let mut seen = Vec::new();
        for network in networks.values() {
            let start = network.range.strip_suffix("0.0/16").expect("a /16");
            assert!(network.client.to_string().starts_with(start), "{network:?}");
            assert!(!seen.contains(&start), "{network:?}");
            seen.push(start);
        }
    }
}
