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
