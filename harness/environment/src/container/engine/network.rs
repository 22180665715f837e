//! The run's networks: their ranges, and addresses in them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest};
use bollard::query_parameters::ListNetworksOptions;
use futures_util::future::try_join_all;

use super::client::Engine;
use super::error::EngineError;
use super::limits;
use model::network::NetworkName;

/// What a network of a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// Where servers meet clients, who are told apart by the range from which they come.
    Named(NetworkName),
    /// Every container is on this one: its ports are published over it. Containers don't reach one another here, and nothing outside.
    Control,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Named(network) => network.name(),
            Self::Control => "control",
        }
    }

    /// A /24 chosen by `random`: somewhere in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16.
    fn range(self, random: u64) -> Range {
        let [one, two, ..] = random.to_le_bytes();
        let base = match self {
            Self::Named(NetworkName::Pods | NetworkName::Gateway) => Ipv4Addr::new(10, one, two, 0),
            Self::Named(NetworkName::Sites) | Self::Control => Ipv4Addr::new(172, 16 + one % 16, two, 0),
            Self::Named(NetworkName::Elsewhere) => Ipv4Addr::new(192, 168, two, 0),
        };
        Range { base, length: OUR_LENGTH }
    }
}

/// Prefix length of our networks.
const OUR_LENGTH: u8 = 24;

/// Choices of a free range. Of the smallest space there are 256 to choose from; a machine on which so many fail in a row has none left.
const TRIES: u64 = 64;

/// A network of the run, made.
#[derive(Debug, Clone)]
pub(super) struct Network {
    /// The engine's name for it.
    pub(super) name: String,
    /// A /24 that nothing else on this machine had when it was made.
    pub(super) range: Range,
}

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    base: Ipv4Addr,
    length: u8,
}

impl Range {
    /// `a.b.c.d/n`, or an address alone.
    fn parse(text: &str) -> Option<Self> {
        let (base, length) = text.split_once('/').unwrap_or((text, "32"));
        let range = Self { base: base.parse().ok()?, length: length.parse().ok()? };
        (range.length <= 32).then_some(range)
    }

    fn overlaps(self, other: Self) -> bool {
        // Of length 0 is the default route, which takes nothing from anybody.
        let common = u32::from(self.length.min(other.length));
        common > 0 && (u32::from(self.base) ^ u32::from(other.base)) >> (32 - common) == 0
    }

    /// The address with this last part.
    pub(super) fn address(self, host: u8) -> Ipv4Addr {
        let [one, two, three, _] = self.base.octets();
        Ipv4Addr::new(one, two, three, host)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.base, self.length)
    }
}

/// The networks of a run.
#[derive(Debug)]
pub(super) struct RunNetworks {
    /// Those that servers and clients are on.
    pub(super) named: BTreeMap<NetworkName, Network>,
    /// The one that the harness reaches its containers over.
    pub(super) control: Network,
}

/// Makes all networks of a run. `name` gives the engine's name, `labels` is what they all carry.
///
/// # Errors
/// [`EngineError`]; what was made until then stays, with its labels.
pub(super) async fn make_all(
    engine: &Engine,
    name: impl Fn(&str) -> String,
    labels: &HashMap<String, String>,
) -> Result<RunNetworks, EngineError> {
    let taken = taken(engine).await?;
    let make = |purpose: Purpose| make(engine, purpose, name(purpose.name()), labels, &taken);
    let named = NetworkName::ALL.map(|network| {
        let made = make(Purpose::Named(network));
        async move { Ok((network, made.await?)) }
    });
    let (named, control) = tokio::try_join!(try_join_all(named), make(Purpose::Control))?;
    Ok(RunNetworks { named: named.into_iter().collect(), control })
}

/// Makes one, in a range of its own: of two that choose the same the engine refuses the second.
async fn make(
    engine: &Engine,
    purpose: Purpose,
    name: String,
    labels: &HashMap<String, String>,
    taken: &[Range],
) -> Result<Network, EngineError> {
    let random = RandomState::new();
    let mut refused = Vec::new();
    for attempt in 0..TRIES {
        let range = purpose.range(random.hash_one(attempt));
        if taken.iter().any(|other| other.overlaps(range)) {
            continue;
        }
        let request = request(purpose, &name, range, labels);
        match engine.ask(limits::CHANGE, || format!("make the network {name}"), engine.docker().create_network(request)).await {
            Ok(_) => return Ok(Network { name, range }),
            Err(error) if error.is_overlap() => refused.push(range.to_string()),
            Err(error) => return Err(error),
        }
    }
    Err(EngineError::Refused {
        what: format!("make the network {name}"),
        reason: format!(
            "no free range was found in {TRIES} tries; refused by the engine: [{}]; `docker network prune` removes unused ones",
            refused.join(", ")
        ),
        status: None,
    })
}

fn request(purpose: Purpose, name: &str, range: Range, labels: &HashMap<String, String>) -> NetworkCreateRequest {
    let control = purpose == Purpose::Control;
    // Ports are published over a network that leads outside only. Without masquerading nothing that leaves it is answered, and containers
    // don't reach one another over it: a server that is cut off stays reachable for the harness alone.
    let options = ["com.docker.network.bridge.enable_ip_masquerade", "com.docker.network.bridge.enable_icc"]
        .map(|option| (option.to_owned(), "false".to_owned()));
    NetworkCreateRequest {
        name: name.to_owned(),
        driver: Some("bridge".to_owned()),
        internal: Some(!control),
        ipam: Some(Ipam { config: Some(vec![IpamConfig { subnet: Some(range.to_string()), ..IpamConfig::default() }]), ..Ipam::default() }),
        options: control.then(|| options.into()),
        labels: Some(labels.clone()),
        ..NetworkCreateRequest::default()
    }
}

/// Ranges that are in use: by the engine's networks, by this machine's routes, and by its name servers, which may lie behind the default
/// route.
async fn taken(engine: &Engine) -> Result<Vec<Range>, EngineError> {
    let list = engine.docker().list_networks(None::<ListNetworksOptions>);
    let networks = engine.ask(limits::LOOK, || "list its networks".to_owned(), list).await?;
    let configs = networks.into_iter().filter_map(|network| network.ipam?.config).flatten();
    let mut taken: Vec<Range> = configs.filter_map(|config| Range::parse(&config.subnet?)).collect();
    // Neither file is there everywhere; the engine refuses what overlaps with its own networks in any case.
    taken.extend(routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default()));
    taken.extend(name_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default()));
    Ok(taken)
}

/// The kernel's table: destination and mask in hexadecimal, in the byte order of the machine.
fn routes(table: &str) -> Vec<Range> {
    let address = |hex: &str| u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes);
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        let base = Ipv4Addr::from(address(fields.nth(1)?)?);
        let mask = u32::from_be_bytes(address(fields.nth(5)?)?);
        Some(Range { base, length: u8::try_from(mask.leading_ones()).ok()? })
    };
    table.lines().skip(1).filter_map(route).collect()
}

fn name_servers(resolv_conf: &str) -> Vec<Range> {
    resolv_conf.lines().filter_map(|line| Range::parse(line.strip_prefix("nameserver")?.trim())).collect()
}

/// Addresses of one network that are in use.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    used: BTreeSet<u8>,
    last: u8,
}

/// The first address that is given without being asked for: those below are for whoever wants a certain one.
const FIRST: u8 = 16;

impl Addresses {
    /// Takes one: `wanted`, or the next that is free. An address that was given back is used again as late as possible, since others may
    /// remember it. `None` if it is not to be had.
    pub(super) fn take(&mut self, wanted: Option<u8>) -> Option<u8> {
        let host = match wanted {
            // The first is the bridge's own.
            Some(host) => (2..=254).contains(&host).then_some(host)?,
            None => {
                let from = self.last.saturating_add(1).max(FIRST);
                (from..=254).chain(FIRST..from).find(|host| !self.used.contains(host))?
            }
        };
        if wanted.is_none() {
            self.last = host;
        }
        self.used.insert(host).then_some(host)
    }

    pub(super) fn give_back(&mut self, host: u8) {
        self.used.remove(&host);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> Range {
        Range::parse(text).expect("a range")
    }

    #[test]
    fn ranges_overlap_if_one_holds_the_other() {
        assert!(range("10.1.2.0/24").overlaps(range("10.0.0.0/8")));
        assert!(range("10.0.0.0/8").overlaps(range("10.1.2.0/24")));
        assert!(range("10.255.255.0/24").overlaps(range("10.255.255.53")));
        assert!(!range("10.1.2.0/24").overlaps(range("10.1.3.0/24")));
        assert!(!range("10.1.2.0/24").overlaps(range("0.0.0.0/0")), "the default route takes nothing");
        assert_eq!(Range::parse("fe80::1"), None);
        assert_eq!(Range::parse("10.0.0.0/33"), None);
    }

    #[test]
    fn routes_are_read_from_the_kernels_table() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n";
        assert_eq!(routes(table), [range("0.0.0.0/0"), range("172.17.0.0/16")]);
    }

    #[test]
    fn name_servers_are_read_from_resolv_conf() {
        let servers = name_servers("search example\nnameserver 10.255.255.53\nnameserver fe80::1%eth0\noptions ndots:0\n");
        assert_eq!(servers, [range("10.255.255.53")]);
    }

    #[test]
    fn each_network_stays_in_its_range() {
        for random in (0..1000_u64).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
            for (purpose, wide) in [
                (Purpose::Named(NetworkName::Pods), "10.0.0.0/8"),
                (Purpose::Named(NetworkName::Gateway), "10.0.0.0/8"),
                (Purpose::Named(NetworkName::Sites), "172.16.0.0/12"),
                (Purpose::Control, "172.16.0.0/12"),
                (Purpose::Named(NetworkName::Elsewhere), "192.168.0.0/16"),
            ] {
                let narrow = purpose.range(random);
                assert!(narrow.overlaps(range(wide)) && narrow.length == OUR_LENGTH, "{purpose:?}: {narrow}");
            }
        }
    }

    #[test]
    fn an_address_is_given_once_and_comes_back_as_late_as_possible() {
        let mut addresses = Addresses::default();
        assert_eq!(addresses.take(None), Some(FIRST));
        assert_eq!(addresses.take(Some(FIRST + 1)), Some(FIRST + 1));
        assert_eq!(addresses.take(Some(FIRST + 1)), None, "it is taken");
        assert_eq!(addresses.take(Some(1)), None, "the bridge's");
        assert_eq!(addresses.take(Some(255)), None, "the broadcast address");
        assert_eq!(addresses.take(None), Some(FIRST + 2));
        addresses.give_back(FIRST);
        let rest: Vec<u8> = std::iter::from_fn(|| addresses.take(None)).collect();
        assert_eq!(rest.last(), Some(&FIRST));
        assert_eq!(addresses.take(None), None, "none is left");
    }
}
