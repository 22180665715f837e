//! The outages of a run's timelines, by scenario and client.

use std::collections::{BTreeMap, BTreeSet};

use model::report::{CaseRecord, OutageRecord};
use model::timeline::record::ClientRecord;

/// Takes the cases of a run, and keeps one record for each scenario and client.
#[derive(Debug, Default)]
pub struct Outages {
    /// Scenario and client's place in it, so that the order is that of the files.
    groups: BTreeMap<(String, usize), OutageRecord>,
}

impl Outages {
    /// Takes a case; one without a timeline counts for nothing.
    pub fn add(&mut self, case: &CaseRecord) {
        for (index, client) in case.timeline.iter().flat_map(|timeline| &timeline.clients).enumerate() {
            count(self.groups.entry((case.scenario.clone(), index)).or_insert_with(|| empty(&case.scenario, client)), client);
        }
    }

    /// All of them, by scenario.
    #[must_use]
    pub fn finish(self) -> Vec<OutageRecord> {
        self.groups.into_values().collect()
    }
}

fn empty(scenario: &str, client: &ClientRecord) -> OutageRecord {
    OutageRecord {
        scenario: scenario.to_owned(),
        client: client.name.clone(),
        kind: client.kind,
        cases: 0,
        with_outage: 0,
        to_the_end: 0,
        shortest_ms: None,
        longest_ms: None,
        refusals: BTreeSet::new(),
        known_to_ms: None,
        resolution_ms: None,
    }
}

/// Adds one client of one case.
fn count(outages: &mut OutageRecord, client: &ClientRecord) {
    outages.cases += 1;
    outages.with_outage += usize::from(!client.outages.is_empty());
    outages.to_the_end += usize::from(client.outages.last().is_some_and(|outage| outage.to_ms.is_none()));
    for length in client.outages.iter().filter_map(|outage| Some(outage.to_ms? - outage.from_ms)) {
        outages.shortest_ms = Some(outages.shortest_ms.map_or(length, |shortest| shortest.min(length)));
        outages.longest_ms = Some(outages.longest_ms.map_or(length, |longest| longest.max(length)));
    }
    outages.refusals.extend(client.outages.iter().flat_map(|outage| outage.refusals.keys().cloned()));
    for known_to in client.outages.iter().map(|outage| outage.known_to_ms) {
        outages.known_to_ms = Some(outages.known_to_ms.map_or(known_to, |worst| worst.max(known_to)));
    }
    if let Some(resolution) = client.resolution_ms {
        outages.resolution_ms = Some(outages.resolution_ms.map_or(resolution, |worst| worst.max(resolution)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::outcome::Outcome;
    use model::timeline::ClientKind;
    use model::timeline::record::{Outage, TimelineRecord};

    fn outage(from_ms: f64, to_ms: Option<f64>, known_to_ms: f64, refusal: &str) -> Outage {
        let refusals = BTreeMap::from([(refusal.to_owned(), 1)]);
        Outage { from_ms, to_ms, known_to_ms, failures: 1, refusals, text: String::new() }
    }

    fn client(name: &str, resolution_ms: Option<f64>, outages: Vec<Outage>) -> ClientRecord {
        let (attempts, failures, connections) = (9, 1, 9);
        ClientRecord {
            name: name.to_owned(),
            kind: ClientKind::New,
            driver: None,
            attempts,
            failures,
            connections,
            outages,
            resolution_ms,
            latency: None,
        }
    }

    fn case(scenario: &str, clients: Option<Vec<ClientRecord>>) -> CaseRecord {
        CaseRecord {
            id: format!("{scenario}:"),
            scenario: scenario.to_owned(),
            values: indexmap::IndexMap::new(),
            deployment: "documented".to_owned(),
            outcome: Outcome::Pass,
            claims: Vec::new(),
            steps: Vec::new(),
            timeline: clients.map(|clients| TimelineRecord { phases: Vec::new(), clients }),
            client: None,
            phases: None,
            connections: 0,
            control: None,
            duration_ms: 0.0,
            evidence: None,
            evidence_error: None,
            repro: String::new(),
        }
    }

    fn summary(cases: &[CaseRecord]) -> Vec<OutageRecord> {
        let mut outages = Outages::default();
        cases.iter().for_each(|case| outages.add(case));
        outages.finish()
    }

    #[test]
    fn a_scenarios_client_has_one_record_over_all_its_cases() {
        let ended = client("new", Some(7.0), vec![outage(10.0, Some(40.0), 3.0, "a"), outage(50.0, Some(55.0), 8.0, "b")]);
        let lasting = client("new", Some(20.0), vec![outage(0.0, Some(90.0), 1.0, "b"), outage(95.0, None, 2.0, "c")]);
        let never = client("new", None, Vec::new());
        let found = summary(&[case("s", Some(vec![ended])), case("s", Some(vec![lasting])), case("s", Some(vec![never]))]);
        let [record] = found.as_slice() else { panic!("one record: {found:?}") };
        assert_eq!((record.scenario.as_str(), record.client.as_str(), record.kind), ("s", "new", ClientKind::New));
        assert_eq!((record.cases, record.with_outage, record.to_the_end), (3, 2, 1));
        // 30, 5 and 90 ms; the one that lasts has no length.
        assert_eq!((record.shortest_ms, record.longest_ms), (Some(5.0), Some(90.0)));
        assert_eq!(record.refusals.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((record.known_to_ms, record.resolution_ms), (Some(8.0), Some(20.0)));
    }

    #[test]
    fn an_outage_counts_as_lasting_only_if_it_is_the_last_and_does_not_end() {
        let found = summary(&[case("s", Some(vec![client("new", None, vec![outage(1.0, Some(2.0), 0.5, "a")])]))]);
        assert_eq!((found[0].with_outage, found[0].to_the_end, found[0].resolution_ms), (1, 0, None));
    }

    #[test]
    fn records_stand_in_the_order_of_scenarios_and_of_their_clients_and_cases_without_a_timeline_have_none() {
        let clients = || Some(vec![client("z", None, Vec::new()), client("a", None, Vec::new())]);
        let found = summary(&[case("t", clients()), case("s", clients()), case("u", None)]);
        let names: Vec<(&str, &str, usize)> = found.iter().map(|one| (one.scenario.as_str(), one.client.as_str(), one.cases)).collect();
        assert_eq!(names, [("s", "z", 1), ("s", "a", 1), ("t", "z", 1), ("t", "a", 1)]);
    }
}
