//! Ranges of a deployment's own pg_hba.conf: which network of the run stands for which range.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;

use super::Manifests;
use super::cluster::Cluster;
use super::hba::HbaRange;
use model::network::NetworkName;

/// `NAME=RANGE`: in the deployment, the clients of a network are in this range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkRange {
    /// The network by its name in scenarios.
    pub network: NetworkName,
    /// Its addresses in the deployment.
    pub range: IpNet,
}

impl fmt::Display for NetworkRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.network, self.range)
    }
}

/// A text that is no [`NetworkRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkRangeError {
    /// There is no `=`.
    #[error("it takes NAME=RANGE, such as pods=10.0.0.0/8")]
    Form,
    /// What stands before it is no network's name.
    #[error("`{name}` is no network: {} are", NetworkName::ALL.map(NetworkName::name).join(", "))]
    Network {
        /// The text before `=`.
        name: String,
    },
    /// What stands behind it is no range.
    #[error("`{range}` is no range of addresses such as 10.0.0.0/8 or fd00::/8")]
    Range {
        /// The text behind `=`.
        range: String,
    },
}

impl FromStr for NetworkRange {
    type Err = NetworkRangeError;

    fn from_str(text: &str) -> Result<Self, NetworkRangeError> {
        let (name, range) = text.split_once('=').ok_or(NetworkRangeError::Form)?;
        let network = NetworkName::of(name).ok_or_else(|| NetworkRangeError::Network { name: name.to_owned() })?;
        let parsed: IpNet = range.parse().map_err(|_| NetworkRangeError::Range { range: range.to_owned() })?;
        Ok(Self { network, range: parsed.trunc() })
    }
}

/// A range can't be given to a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameNetworksError {
    /// Two ranges for one network: its clients have one address.
    #[error("--network gives {network} two ranges, {first} and {second}: its clients have one address, so name one range")]
    Twice {
        /// The network.
        network: NetworkName,
        /// What was given first.
        first: IpNet,
        /// What was given then.
        second: IpNet,
    },
    /// No line of pg_hba.conf has the range, or one that holds it.
    #[error(
        "--network {given}: no line of the Cluster's pg_hba has this range or one that holds it{}",
        if ranges.is_empty() { "; its lines have no ranges".to_owned() } else { format!("; its ranges are {ranges}") }
    )]
    InNoLine {
        /// What was given.
        given: NetworkRange,
        /// Those that the lines have, with commas between them.
        ranges: String,
    },
    /// The manifests have no Cluster.
    #[error("--network {given}: the manifests have no Cluster, and nothing else has lines of pg_hba")]
    NoCluster {
        /// What was given.
        given: NetworkRange,
    },
}

impl Manifests {
    /// Gives ranges of the Cluster's pg_hba to networks: a line whose range holds that of a network holds for the network's clients, too,
    /// whose addresses the environment chooses. For each such network a line with `${range:NETWORK}` follows it, at the same place among
    /// the other lines; of a line with just this range nothing else stays, unless the range is that of all addresses.
    ///
    /// # Errors
    /// [`NameNetworksError`].
    pub fn name_networks(&mut self, given: &[NetworkRange]) -> Result<(), NameNetworksError> {
        for (index, second) in given.iter().enumerate() {
            if let Some(first) = given[..index].iter().find(|first| first.network == second.network) {
                let (network, first, second) = (second.network, first.range, second.range);
                return Err(NameNetworksError::Twice { network, first, second });
            }
        }
        let Some(first) = given.first() else { return Ok(()) };
        let cluster = self.cluster.as_mut().ok_or(NameNetworksError::NoCluster { given: *first })?;
        let ranges: Vec<IpNet> = ranges(cluster).collect();
        for given in given {
            if !ranges.iter().any(|range| range.contains(&given.range)) {
                let mut texts: Vec<String> = Vec::new();
                for text in ranges.iter().map(ToString::to_string) {
                    if !texts.contains(&text) {
                        texts.push(text);
                    }
                }
                return Err(NameNetworksError::InNoLine { given: *given, ranges: texts.join(", ") });
            }
        }
        for item in &mut cluster.postgresql.pg_hba {
            let lines: Vec<String> = item.lines().flat_map(|line| with_networks(line, given)).collect();
            *item = lines.join("\n");
        }
        Ok(())
    }
}

/// The ranges of the lines of a Cluster's pg_hba that have one.
fn ranges(cluster: &Cluster) -> impl Iterator<Item = IpNet> {
    cluster.postgresql.pg_hba.iter().flat_map(|item| item.lines()).filter_map(|line| Some(HbaRange::of(line)?.range))
}

/// A line of pg_hba, with one behind it for each network whose range it holds; in their place where it is just that range. A line for
/// every address stays: whoever is in no network that was named can match it as well.
fn with_networks(line: &str, given: &[NetworkRange]) -> Vec<String> {
    let mut lines = vec![line.to_owned()];
    if let Some(found) = HbaRange::of(line) {
        for given in given.iter().filter(|given| found.range.contains(&given.range)) {
            lines.push(found.named(line, given.network));
        }
        if found.range.prefix_len() > 0 && given.iter().any(|given| given.range == found.range) {
            lines.remove(0);
        }
    }
    lines
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// The shipped deployment with these lines in place of its one.
    pub(crate) fn with_lines(lines: &[&str]) -> Manifests {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/deployment");
        let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
            .expect("the folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        let items: Vec<String> = lines.iter().map(|line| format!("- {line:?}")).collect();
        let text = |file: &PathBuf| {
            let text = std::fs::read_to_string(file).expect("readable");
            text.replace("- hostssl all all 0.0.0.0/0 cert", &items.join("\n      "))
        };
        let texts = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yaml"));
        let texts = texts.map(|file| (file.file_name().expect("a name").into(), text(file))).collect();
        Manifests::from_texts(Path::new("DIR"), texts).expect("valid")
    }

    fn named(lines: &[&str], given: &[&str]) -> Result<Vec<String>, NameNetworksError> {
        let mut manifests = with_lines(lines);
        let given: Vec<NetworkRange> = given.iter().map(|text| text.parse().expect("NAME=RANGE")).collect();
        manifests.name_networks(&given)?;
        Ok(manifests.cluster.expect("a Cluster").postgresql.pg_hba)
    }

    #[test]
    fn a_line_holds_for_each_network_whose_range_it_holds_at_its_own_place() {
        let lines = [
            "hostssl all all 10.0.0.0 255.0.0.0 cert # pods",
            "hostssl all all 10.20.0.0/16 reject",
            "hostssl all all 8.0.0.0/5 cert",
            "local all all peer",
            "host all all all reject",
        ];
        let expected = [
            "hostssl all all ${range:pods} cert # pods\nhostssl all all ${range:sites} cert # pods",
            "hostssl all all ${range:sites} reject",
            "hostssl all all 8.0.0.0/5 cert\nhostssl all all ${range:pods} cert\nhostssl all all ${range:sites} cert",
            "local all all peer",
            "host all all all reject",
        ];
        assert_eq!(named(&lines, &["pods=10.0.0.0/8", "sites=10.20.7.7/16"]).expect("both are there"), expected);
        assert_eq!(named(&lines, &[]).expect("nothing is given"), lines);
    }

    #[test]
    fn what_can_not_be_given_to_a_network_is_an_error() {
        let lines = ["hostssl all all 10.0.0.0/8 cert", "hostssl all all fd00::/8 cert"];
        let error = |given: &[&str]| named(&lines, given).expect_err("is none").to_string();
        let in_no_line = "--network sites=10.0.0.0/7: no line of the Cluster's pg_hba has this range or one that holds it; its ranges are 10.0.0.0/8, fd00::/8";
        assert_eq!(error(&["sites=10.0.0.0/7"]), in_no_line);
        assert!(error(&["pods=10.0.0.0/8", "pods=fd00::/8"]).contains("two ranges, 10.0.0.0/8 and fd00::/8"));
        for (text, why) in
            [("pods", "NAME=RANGE"), ("pod=10.0.0.0/8", "`pod` is no network: pods, sites"), ("pods=10.0.0.0/33", "is no range")]
        {
            let error = text.parse::<NetworkRange>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_line_for_every_address_stays_one() {
        let lines = ["host all all 0.0.0.0/0 trust", "hostssl all all ::/0 cert"];
        let expected = ["host all all 0.0.0.0/0 trust\nhost all all ${range:sites} trust", lines[1]];
        assert_eq!(named(&lines, &["sites=0.0.0.0/0"]).expect("it is there"), expected);
    }
}
