//! The networks that clients are in, by name: where a scenario says `pods`, each environment puts its own range and addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A network by its part in the documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkName {
    /// The pods of the global cluster; the documents' 10.0.0.0/8.
    Pods,
    /// The workers of other sites.
    Sites,
    /// Clients that no document speaks of.
    Elsewhere,
    /// Where the gateway's connections to the servers come from. No client is in it.
    Gateway,
}

impl NetworkName {
    /// Every name, in the order in which errors list them.
    pub const ALL: [Self; 4] = [Self::Pods, Self::Sites, Self::Elsewhere, Self::Gateway];
    /// Those that clients can be in.
    pub const OF_CLIENTS: [Self; 3] = [Self::Pods, Self::Sites, Self::Elsewhere];

    /// Its name in scenario files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Sites => "sites",
            Self::Elsewhere => "elsewhere",
            Self::Gateway => "gateway",
        }
    }

    /// The network of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `pods, sites, ...`, for errors.
fn list(names: &[NetworkName]) -> String {
    names.iter().map(|name| name.name()).collect::<Vec<_>>().join(", ")
}

/// A network as an environment has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its addresses in CIDR notation, as pg_hba.conf takes them.
    pub range: String,
    /// The address in it that a client has; for the gateway's network the gateway's own.
    pub client: IpAddr,
}

/// The networks of an environment. One that it does not have is not in it: cases that name it are skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Networks(
    /// Name to range and address.
    pub BTreeMap<NetworkName, Network>,
);

/// A case names a network that the environment does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment has no network `{0}`")]
pub struct NoNetwork(String);

impl Networks {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A network of it.
    ///
    /// # Errors
    /// [`NoNetwork`].
    pub fn network(&self, name: NetworkName) -> Result<&Network, NoNetwork> {
        self.0.get(&name).ok_or_else(|| NoNetwork(name.to_string()))
    }

    /// The address that a client with this source has.
    ///
    /// # Errors
    /// [`NoNetwork`].
    pub fn address(&self, source: Source) -> Result<IpAddr, NoNetwork> {
        match source {
            Source::Address(address) => Ok(address),
            Source::Network(name) => self.network(name).map(|network| network.client),
        }
    }

    /// The text with every `${range:NETWORK}` and `${address:NETWORK}` replaced. Other references stay.
    ///
    /// # Errors
    /// [`NoNetwork`].
    pub fn fill(&self, text: &str) -> Result<String, NoNetwork> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((head, tail)) = rest.split_once("${")
            && let Some((reference, tail)) = tail.split_once('}')
        {
            out.push_str(head);
            match split(reference) {
                None => out.push_str(&format!("${{{reference}}}")),
                Some((of, name)) => {
                    let network = self.network(NetworkName::of(name).ok_or_else(|| NoNetwork(name.to_owned()))?)?;
                    match of {
                        Of::Range => out.push_str(&network.range),
                        Of::Address => out.push_str(&network.client.to_string()),
                    }
                }
            }
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    pub(super) fn fill_all(&self, texts: &[String]) -> Result<Vec<String>, NoNetwork> {
        texts.iter().map(|text| self.fill(text)).collect()
    }

    pub(super) fn fill_optional(&self, text: Option<&String>) -> Result<Option<String>, NoNetwork> {
        text.map(|text| self.fill(text)).transpose()
    }
}

/// How a reference to a network is written, between `${` and `}`.
pub const REFERENCES: &str = "range:NETWORK or address:NETWORK";

enum Of {
    Range,
    Address,
}

fn split(reference: &str) -> Option<(Of, &str)> {
    let (of, name) = reference.split_once(':')?;
    match of {
        "range" => Some((Of::Range, name)),
        "address" => Some((Of::Address, name)),
        _ => None,
    }
}

/// A reference names a network that no document knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`${{{reference}}}`: network `{name}` is not one of {}", list(&NetworkName::ALL))]
pub struct UnknownNetwork {
    /// The text between `${` and `}`.
    reference: String,
    /// The part of it that should be a network's name.
    name: String,
}

/// What a reference (the text between `${` and `}`) names: `None` where it is no reference to a network.
///
/// # Errors
/// [`UnknownNetwork`].
#[must_use]
pub fn check_reference(reference: &str) -> Option<Result<NetworkName, UnknownNetwork>> {
    let (_, name) = split(reference)?;
    let unknown = || UnknownNetwork { reference: reference.to_owned(), name: name.to_owned() };
    Some(NetworkName::of(name).ok_or_else(unknown))
}

/// Where a client connects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// An address of 127.0.0.0/8 or `::1`, where the environment has such.
    Address(IpAddr),
    /// A network: its client's address.
    Network(NetworkName),
}

/// A text that names no place from which a client can connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A network that holds the gateway alone.
    #[error("no client is in the network `{0}`, only in {names}; `via: gateway` leads through the gateway", names = list(&NetworkName::OF_CLIENTS))]
    NetworkWithoutClients(NetworkName),
    /// Neither a network's name nor an IP address.
    #[error("`{0}` is no network ({names}) and no IP address", names = list(&NetworkName::OF_CLIENTS))]
    Unknown(String),
    /// An address that belongs to some machine, which no environment promises.
    #[error("{0} is not in 127.0.0.0/8 and not ::1; other addresses have their network's name: {names}", names = list(&NetworkName::OF_CLIENTS))]
    NotLoopback(IpAddr),
}

impl std::str::FromStr for Source {
    type Err = SourceError;

    /// A network that clients can be in, by name, or an address of loopback.
    fn from_str(text: &str) -> Result<Self, SourceError> {
        if let Some(name) = NetworkName::of(text) {
            let has_clients = NetworkName::OF_CLIENTS.contains(&name);
            return if has_clients { Ok(Self::Network(name)) } else { Err(SourceError::NetworkWithoutClients(name)) };
        }
        let address: IpAddr = text.parse().map_err(|_| SourceError::Unknown(text.to_owned()))?;
        if address.is_loopback() { Ok(Self::Address(address)) } else { Err(SourceError::NotLoopback(address)) }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Network(name) => name.fmt(f),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks() -> Networks {
        let network = |range: &str, client: &str| Network { range: range.to_owned(), client: client.parse().expect("an address") };
        Networks(BTreeMap::from([
            (NetworkName::Pods, network("10.0.0.0/8", "10.1.2.3")),
            (NetworkName::Gateway, network("10.9.0.0/16", "10.9.0.2")),
        ]))
    }

    #[test]
    fn ranges_and_addresses_are_filled_in_and_other_references_stay() {
        let filled = networks().fill("host all all ${range:pods} trust # ${address:gateway}/32 ${identity:app/tls.crt} $x");
        assert_eq!(filled.expect("both are there"), "host all all 10.0.0.0/8 trust # 10.9.0.2/32 ${identity:app/tls.crt} $x");
    }

    #[test]
    fn a_network_that_an_environment_does_not_have_is_named() {
        for text in ["${range:sites}", "x ${address:sites}"] {
            assert_eq!(networks().fill(text).expect_err("not there").to_string(), "the environment has no network `sites`");
        }
        assert_eq!(networks().address(Source::Network(NetworkName::Elsewhere)), Err(NoNetwork("elsewhere".to_owned())));
    }

    #[test]
    fn a_source_is_a_network_of_clients_or_a_loopback_address() {
        for text in ["pods", "sites", "elsewhere", "127.0.0.1", "127.10.0.7", "::1"] {
            let source: Source = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(serde_json::to_value(source).expect("a text"), text, "it is written as it was read");
        }
        assert_eq!("sites".parse(), Ok(Source::Network(NetworkName::Sites)));
        assert_eq!("::1".parse(), Ok(Source::Address(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST))));
        for (text, part) in [("gateway", "no client is in"), ("pod", "pods, sites, elsewhere"), ("10.0.0.1", "not in 127.0.0.0/8")] {
            let error = text.parse::<Source>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_source_has_its_networks_address_or_its_own() {
        assert_eq!(networks().address(Source::Network(NetworkName::Pods)), Ok("10.1.2.3".parse().expect("an address")));
        let own = "127.0.0.9".parse().expect("an address");
        assert_eq!(networks().address(Source::Address(own)), Ok(own));
    }

    #[test]
    fn names_in_files_and_reports_are_the_same() {
        for name in NetworkName::ALL {
            assert_eq!(serde_json::to_value(name).expect("a text"), name.name());
        }
    }
}
