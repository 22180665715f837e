//! The outages of a run's timelines, by scenario and client.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::report::{CaseRecord, OutageRecord};
use crate::model::timeline::record::ClientRecord;

/// Accumulates them.
#[derive(Debug, Default)]
pub struct Outages {
    /// Scenario and client's place in it, so that the order is that of the files.
    groups: BTreeMap<(String, usize), OutageRecord>,
}

impl Outages {
    /// Takes a case; one without a timeline counts for nothing.
    pub fn add(&mut self, case: &CaseRecord) {
        for (index, client) in case.timeline.iter().flat_map(|timeline| &timeline.clients).enumerate() {
            self.groups.entry((case.scenario.clone(), index)).or_insert_with(|| empty(&case.scenario, client)).add(client);
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

impl OutageRecord {
    fn add(&mut self, client: &ClientRecord) {
        self.cases += 1;
        self.with_outage += usize::from(!client.outages.is_empty());
        self.to_the_end += usize::from(client.outages.last().is_some_and(|outage| outage.to_ms.is_none()));
        for length in client.outages.iter().filter_map(|outage| Some(outage.to_ms? - outage.from_ms)) {
            self.shortest_ms = Some(self.shortest_ms.map_or(length, |shortest| shortest.min(length)));
            self.longest_ms = Some(self.longest_ms.map_or(length, |longest| longest.max(length)));
        }
        self.refusals.extend(client.outages.iter().flat_map(|outage| outage.refusals.keys().cloned()));
        for known_to in client.outages.iter().map(|outage| outage.known_to_ms) {
            self.known_to_ms = Some(self.known_to_ms.map_or(known_to, |worst| worst.max(known_to)));
        }
        if let Some(resolution) = client.resolution_ms {
            self.resolution_ms = Some(self.resolution_ms.map_or(resolution, |worst| worst.max(resolution)));
        }
    }
}
