//! Lines of a deployment's own pg_hba.conf of which a run sees nothing, or nothing that holds for the deployment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Manifests;
use super::hba::HbaAddress;
use load::Place;
use model::network::NetworkName;

/// Names of this machine's own addresses, where its files of hosts are the usual ones.
const LOCAL_NAMES: [&str; 4] = ["localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"];

/// A line of pg_hba that was not tested.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {cause}")]
pub struct UnseenLine {
    /// The item of `pg_hba`.
    place: Place,
    cause: UnseenCause,
}

/// Why nothing was seen of a line that holds for the deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum UnseenCause {
    #[error(
        "no client of this run is in {range}, so that nothing was seen of `{line}`; if it is a network's of scenarios, say which: \
         --network pods={range}"
    )]
    NotInRange { line: String, range: IpNet },
    #[error(
        "no client of this run has an address that {base} with the mask {mask} holds, so that nothing was seen of `{line}`; with a mask \
         that is a prefix, --network can say whose range it is"
    )]
    NotInMask { line: String, base: IpAddr, mask: IpAddr },
    #[error(
        "no client of this run has the name {name}, so that nothing was seen of `{line}`; with a range in its place, --network can say \
         whose it is"
    )]
    NotNamed { line: String, name: String },
    #[error(
        "`{line}` is for the server's own machine or networks, where clients of a run may be and those of the deployment are others: what \
         was seen of it holds for this environment alone; with the clients' range in its place, --network can say whose it is"
    )]
    OwnMachine { line: String },
}

impl Manifests {
    /// The lines of the Cluster's pg_hba of which a run whose clients have these addresses sees nothing that holds for the deployment.
    #[must_use]
    pub fn unseen_lines(&self, clients: &[IpAddr]) -> Vec<UnseenLine> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let mut unseen = Vec::new();
        for (place, item) in cluster.pg_hba_places.iter().zip(&cluster.postgresql.pg_hba) {
            for (line, next) in item.lines().zip(item.lines().skip(1).map(Some).chain([None])) {
                if let Some(cause) = cause(line, next, clients) {
                    unseen.push(UnseenLine { place: place.clone(), cause });
                }
            }
        }
        unseen
    }
}

/// Why a line is unseen that is followed by `next`.
fn cause(line: &str, next: Option<&str>, clients: &[IpAddr]) -> Option<UnseenCause> {
    let address = HbaAddress::of(line)?;
    let text = line.trim().to_owned();
    if is_own_machine(&address) {
        return Some(UnseenCause::OwnMachine { line: text });
    }
    if clients.iter().any(|client| address.holds(*client)) {
        return None;
    }
    match address {
        HbaAddress::All | HbaAddress::Own(_) => None,
        // Its own lines for networks follow it.
        HbaAddress::Range(found) if next.is_some_and(|next| NetworkName::ALL.iter().any(|network| found.named(line, *network) == next)) => {
            None
        }
        // It was put in place of a range.
        HbaAddress::Name(name) if name.starts_with("${") => None,
        HbaAddress::Range(found) => Some(UnseenCause::NotInRange { line: text, range: found.range }),
        HbaAddress::Masked { base, mask } => Some(UnseenCause::NotInMask { line: text, base, mask }),
        HbaAddress::Name(name) => Some(UnseenCause::NotNamed { line: text, name }),
    }
}

/// Whether only clients on the server's own machine, or in the networks that it happens to be in, are meant.
fn is_own_machine(address: &HbaAddress) -> bool {
    match address {
        HbaAddress::Own(_) => true,
        HbaAddress::Range(found) => {
            let loopback = [IpNet::new_assert(IpAddr::V4(Ipv4Addr::LOCALHOST), 8).trunc(), IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))];
            loopback.iter().any(|own| own.contains(&found.range))
        }
        HbaAddress::Name(name) => LOCAL_NAMES.iter().any(|local| name.eq_ignore_ascii_case(local)),
        HbaAddress::All | HbaAddress::Masked { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::networks::tests::with_lines;
    use super::*;

    fn told(manifests: &Manifests, clients: &[&str]) -> Vec<String> {
        let clients: Vec<IpAddr> = clients.iter().map(|client| client.parse().expect("an address")).collect();
        manifests.unseen_lines(&clients).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_that_no_client_can_match_is_told_with_its_place() {
        let mut manifests = with_lines(&[
            "hostssl all all 10.0.0.0/8 cert",
            "hostssl all all 172.16.0.0/24 cert",
            "hostssl all all 172.16.1.0/24 cert",
            "hostssl all all ::/0 cert",
            "hostssl all all all cert",
            "local all all peer",
            "host all all 10.0.0.0 255.0.255.0 trust",
            "host all all .shop.example trust",
            "host all all 172.0.0.0 255.0.255.0 trust",
        ]);
        let said = told(&manifests, &["172.16.0.7"]);
        for (line, (at, why)) in said.iter().zip([
            (":20:9:", "no client of this run is in 10.0.0.0/8, so that nothing was seen of `hostssl all all 10.0.0.0/8 cert`"),
            (":22:9:", "no client of this run is in 172.16.1.0/24"),
            (":23:9:", "no client of this run is in ::/0"),
            (":26:9:", "no client of this run has an address that 10.0.0.0 with the mask 255.0.255.0 holds"),
            (":27:9:", "no client of this run has the name .shop.example, so that nothing was seen of `host all all .shop.example trust`"),
        ]) {
            assert!(line.contains(at) && line.contains(why), "{line}, expected {at} {why}");
        }
        assert_eq!(said.len(), 5, "{said:?}");
        // Its lines for networks speak for it.
        manifests.name_networks(&["pods=10.0.0.0/8".parse().expect("NAME=RANGE")]).expect("it is there");
        assert_eq!(told(&manifests, &["172.16.0.7"]), said[1..]);
        assert_eq!(told(&manifests, &["172.16.0.7", "::1"]).len(), 3, "one is at an address of IPv6");
    }

    #[test]
    fn a_line_for_the_servers_own_machine_is_told_whoever_is_there() {
        let lines = [
            "hostssl all all samehost cert",
            "hostssl all all samenet cert",
            "hostssl all all 127.0.0.1/32 cert",
            "hostssl all all 127.10.0.0 255.255.0.0 cert",
            "hostssl all all ::1/128 cert",
            "hostssl all all LocalHost cert",
        ];
        let said = told(&with_lines(&lines), &["127.0.0.1", "127.10.0.7", "::1"]);
        assert_eq!(said.len(), lines.len(), "{said:?}");
        for (said, line) in said.iter().zip(lines) {
            assert!(said.contains(&format!("`{line}` is for the server's own machine or networks")), "{said}");
        }
    }
}
