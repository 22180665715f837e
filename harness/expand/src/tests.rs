//! What scenarios say of networks, from the file to a case as it is in an environment.

mod env;
mod errors;

use super::{Catalogue, expand};
use load::{LoadError, ScenarioSet};
use model::case::Case;
use model::driver::{DriverInfo, Family};
use model::network::{Network, NetworkName, Networks};
use model::server::Service;

/// Every place where a scenario can name networks.
pub(super) const SCENARIO: &str = r#"id: a/case
title: Networks
deployment: documented
postgres: [17]
matrix:
  driver: [rustls]
  rule:
    named: "${range:pods}"
    literal: 10.0.0.0/8
server:
  pg_hba: ["hostssl all all ${rule} cert"]
control:
  - connect: {source: pods, driver: nautobot-django, env: {FROM: "${address:pods}"}}
steps:
  - connect: {source: sites}
    expect:
      - refused: {auth: no-hba-entry}
        text: for host "${address:sites}"
        server_log: ["host=${address:gateway}"]
  - openssl: {args: ["${range:sites}", "${trust:mtls-ca}"]}
    expect:
      - output: "${address:gateway}"
"#;
pub(super) const TIMELINE: &str = r#"id: a/timeline
title: Networks
deployment: documented
postgres: [17]
timeline:
  clients:
    new: {kind: new, connect: {driver: nautobot-django, source: elsewhere, env: {FROM: "${range:gateway}"}}}
  phases:
    - title: before
      expect:
        - clients: {new: ok}
    - title: after
      do:
        - pg_hba: ["host all all ${range:pods} reject"]
      expect:
        - clients: {new: {refused: {auth: hba-reject}}}
          text: "${address:pods}"
          server_log: "${range:sites}"
          server_says: "${address:sites}"
          objection: "${address:gateway}"
"#;
pub(super) const DEVIATIONS: &str = r#"deviations:
  - id: it-differs
    cases: ["a/case:*"]
    observed: {refused: {auth: password}, text: "${address:gateway}", server_log: "${range:gateway}"}
    refutes: []
    summary: differs
    reason: none
    reference: none
    review: 2027-06-30
"#;

/// A directory of scenarios with these files, and what loading it gives.
pub(super) fn set_of(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<ScenarioSet, Vec<LoadError>>) {
    let directory = tempfile::tempdir().expect("a directory");
    for (file, text) in files {
        let path = directory.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("writes");
    }
    let set = ScenarioSet::load(&[directory.path().to_path_buf()]);
    (directory, set)
}

pub(super) fn catalogue() -> Catalogue {
    let driver = |name: &str, service, family, libpq| DriverInfo {
        name: name.to_owned(),
        service,
        family,
        libpq,
        version: String::new(),
        tls_library: None,
    };
    let drivers = vec![
        driver("rustls", Service::Postgres, Family::Rustls, None),
        driver("nautobot-django", Service::Postgres, Family::Libpq, Some(170_000)),
        driver("redis-rs", Service::Redis, Family::RedisRs, None),
    ];
    Catalogue { drivers, postgres: vec![17], mount: "/mounted".to_owned() }
}

fn cases() -> Vec<Case> {
    let credentials = "identities: {app: {certificate: app}}\ntrusts: {mtls-ca: {secret: ca}}\n";
    let files =
        [("a/case.yaml", SCENARIO), ("a/timeline.yaml", TIMELINE), ("deviations.yaml", DEVIATIONS), ("credentials.yaml", credentials)];
    let (_directory, set) = set_of(&files);
    let set = set.unwrap_or_else(|errors| panic!("{errors:?}"));
    expand(&set, &catalogue()).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn networks() -> Networks {
    let network = |(name, range, client): (NetworkName, &str, &str)| {
        (name, Network { range: range.to_owned(), client: client.parse().expect("an address") })
    };
    let all = [
        (NetworkName::Pods, "10.0.0.0/8", "10.1.0.7"),
        (NetworkName::Sites, "172.20.0.0/16", "172.20.0.7"),
        (NetworkName::Elsewhere, "192.168.30.0/24", "192.168.30.7"),
        (NetworkName::Gateway, "10.9.0.0/16", "10.9.0.2"),
    ];
    Networks(all.into_iter().map(network).collect())
}

#[test]
fn every_text_that_names_networks_is_filled_in_and_nothing_else_changes() {
    for case in cases() {
        let at = case.at(&networks()).unwrap_or_else(|error| panic!("{error}"));
        let fill = |text: String| {
            let pairs = [("range:pods", "10.0.0.0/8"), ("range:sites", "172.20.0.0/16"), ("range:gateway", "10.9.0.0/16")];
            let addresses = [("address:pods", "10.1.0.7"), ("address:sites", "172.20.0.7"), ("address:gateway", "10.9.0.2")];
            pairs.iter().chain(&addresses).fold(text, |text, (name, value)| text.replace(&format!("${{{name}}}"), value))
        };
        assert_eq!(format!("{at:?}"), fill(format!("{case:?}")), "{}", case.id);
        assert_ne!(at, case);
    }
}

#[test]
fn cases_whose_configuration_comes_out_the_same_share_it() {
    let cases: Vec<Case> = cases().into_iter().filter(|case| case.timeline.is_none()).collect();
    let [named, literal] = cases.as_slice() else { panic!("{cases:?}") };
    assert_ne!(named.config, literal.config);
    assert_eq!(named.at(&networks()).expect("all are there").config, literal.at(&networks()).expect("all are there").config);
    assert!(named.id.contains("rule=named") && literal.id.contains("rule=literal"), "ids are the axes' short names");
}

#[test]
fn each_network_that_is_not_there_is_missed() {
    for case in cases() {
        for name in NetworkName::ALL {
            let mut networks = networks();
            networks.0.remove(&name);
            let written = format!("{case:?}");
            // In a text, or as the source of a connection.
            let named = written.contains(&format!(":{name}}}")) || written.contains(&format!("Network({name:?})"));
            let missed = case.at(&networks).err().map(|error| error.to_string());
            assert_eq!(missed, named.then(|| format!("the environment has no network `{name}`")), "{}", case.id);
        }
    }
}

#[test]
fn our_own_scenarios_name_networks_where_loopback_is_not_meant() {
    let scenarios = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let set = ScenarioSet::load(std::slice::from_ref(&scenarios)).unwrap_or_else(|errors| panic!("{errors:?}"));
    let files = set.scenarios.iter().map(|loaded| loaded.file.clone()).chain([scenarios.join("deviations.yaml")]);
    for file in files {
        let text = std::fs::read_to_string(&file).expect("readable");
        for (number, line) in text.lines().enumerate() {
            let others = line.replace("127.0.0.1", "");
            assert!(!others.contains("127."), "{}:{}: in a container that is nobody's address: {line}", file.display(), number + 1);
        }
    }
}
