//! Driver divergence: the same situation, seen by several drivers, with the newest libpq as the reference.

use std::collections::BTreeMap;

use indexmap::{IndexMap, IndexSet};

use super::short::{same_behaviour, short_form};
use model::outcome::OutcomeKind;
use model::report::{CaseRecord, DivergenceRecord};

/// The axis whose values are compared.
pub const DRIVER_AXIS: &str = "driver";
/// The axis that is the mode of a record.
const MODE_AXIS: &str = "sslmode";

/// What each driver did, by situation. Memory grows with the situations; drivers and short forms are stored once.
#[derive(Debug, Default)]
pub struct Divergence {
    names: IndexSet<String>,
    situations: BTreeMap<String, Situation>,
}

#[derive(Debug)]
struct Situation {
    mode: Option<usize>,
    /// Driver and short form, as indices of `names`.
    observed: BTreeMap<usize, usize>,
}

impl Divergence {
    /// An empty comparison: no case was taken yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a case: what the client of its first step saw. Cases without a driver axis, and those that came to no observation that
    /// means something (skipped, errored, timed out), are left out.
    pub fn add(&mut self, case: &CaseRecord) {
        let kind = case.outcome.kind();
        if kind == OutcomeKind::Skipped || kind.is_error() {
            return;
        }
        if let Some(observed) = case.steps.first().and_then(|step| step.observed.as_ref()) {
            self.record(&case.scenario, &case.values, &short_form(&observed.client));
        }
    }

    /// The same, from a case's parts: `short` as [`short_form`] gives it.
    pub fn record(&mut self, scenario: &str, values: &IndexMap<String, String>, short: &str) {
        let Some(driver) = values.get(DRIVER_AXIS) else { return };
        let driver = self.intern(driver);
        let short = self.intern(short);
        let mode = values.get(MODE_AXIS).map(|mode| self.intern(mode));
        self.situations
            .entry(situation(scenario, values))
            .or_insert_with(|| Situation { mode, observed: BTreeMap::new() })
            .observed
            .insert(driver, short);
    }

    /// Number of situations that at least two drivers were in, one of them a plain libpq.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.situations.values().filter(|situation| self.reference_of(situation).is_some()).count()
    }

    /// The situations in which a driver differs from the reference, by name of situation.
    #[must_use]
    pub fn finish(&self) -> Vec<DivergenceRecord> {
        self.situations
            .iter()
            .filter_map(|(name, situation)| {
                let expected = self.name(*situation.observed.get(&self.reference_of(situation)?)?);
                let mut divergent: Vec<String> = situation
                    .observed
                    .iter()
                    .filter(|(_, short)| !same_behaviour(expected, self.name(**short)))
                    .map(|(driver, _)| self.name(*driver).to_owned())
                    .collect();
                divergent.sort();
                (!divergent.is_empty()).then(|| DivergenceRecord {
                    situation: name.clone(),
                    mode: situation.mode.map(|mode| self.name(mode).to_owned()),
                    observed: situation
                        .observed
                        .iter()
                        .map(|(driver, short)| (self.name(*driver).to_owned(), self.name(*short).to_owned()))
                        .collect(),
                    divergent,
                })
            })
            .collect()
    }

    fn reference_of(&self, situation: &Situation) -> Option<usize> {
        if situation.observed.len() < 2 {
            return None;
        }
        let reference = reference(situation.observed.keys().map(|driver| self.name(*driver)))?;
        self.names.get_index_of(reference)
    }

    fn intern(&mut self, name: &str) -> usize {
        match self.names.get_index_of(name) {
            Some(index) => index,
            None => self.names.insert_full(name.to_owned()).0,
        }
    }

    fn name(&self, index: usize) -> &str {
        self.names.get_index(index).map_or("", String::as_str)
    }
}

/// The reference among drivers: the newest plain libpq, `libpq-<N>` with the highest N.
pub fn reference<'a>(drivers: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |driver: &str| driver.strip_prefix("libpq-").and_then(|version| version.parse::<u32>().ok());
    drivers.into_iter().filter_map(|driver| plain(driver).map(|version| (version, driver))).max().map(|(_, driver)| driver)
}

/// `<scenario>:<axis>=<value>,...` without the driver.
fn situation(scenario: &str, values: &IndexMap<String, String>) -> String {
    let mut name = scenario.to_owned();
    let mut separator = ':';
    for (axis, value) in values {
        if axis != DRIVER_AXIS {
            name.push(separator);
            name.push_str(axis);
            name.push('=');
            name.push_str(value);
            separator = ',';
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::observation::{ClientObservation, ClientOutcome, Observation, Phases, Refused};
    use model::outcome::{ErrorKind, Outcome, SkipReason};
    use model::refusal::{Alert, Refusal, Stage};
    use model::report::StepRecord;

    fn fed(observed: &[(&str, &str, &str)]) -> Divergence {
        let mut divergence = Divergence::new();
        for (driver, mode, short) in observed {
            let values = [("driver", *driver), ("sslmode", *mode), ("identity", "none")]
                .map(|(axis, value)| (axis.to_owned(), value.to_owned()))
                .into_iter()
                .collect();
            divergence.record("postgres/sslmode", &values, short);
        }
        divergence
    }

    #[test]
    fn the_newest_plain_libpq_is_the_reference() {
        assert_eq!(reference(["rustls", "libpq-9", "libpq-18", "libpq-17", "psycopg2-2.9.12"]), Some("libpq-18"));
        assert_eq!(reference(["rustls", "libpq-psycopg2-2.9.12"]), None);
    }

    #[test]
    fn a_driver_that_does_something_else_than_the_reference_is_divergent() {
        let divergence = fed(&[
            ("libpq-15", "require", "tls session"),
            ("libpq-18", "require", "verify: certificate"),
            ("rustls", "require", "verify: unknown-ca"),
            ("psycopg2-2.9.12", "require", "plaintext session"),
            ("libpq-18", "disable", "auth: no-hba-entry"),
            ("rustls", "disable", "auth: no-hba-entry"),
        ]);
        assert_eq!(divergence.compared(), 2);
        let records = divergence.finish();
        assert_eq!(records.len(), 1, "situations in which all agree are counted, not listed");
        assert_eq!(records[0].situation, "postgres/sslmode:sslmode=require,identity=none");
        assert_eq!(records[0].mode.as_deref(), Some("require"));
        assert_eq!(records[0].divergent, ["libpq-15", "psycopg2-2.9.12"]);
        assert_eq!(records[0].observed["rustls"], "verify: unknown-ca");
        assert_eq!(records[0].observed.len(), 4);
    }

    #[test]
    fn without_a_plain_libpq_or_a_second_driver_nothing_is_compared() {
        let divergence = fed(&[
            ("rustls", "require", "tls session"),
            ("psycopg2-2.9.12", "require", "plaintext session"),
            ("libpq-18", "disable", "plaintext session"),
        ]);
        assert_eq!(divergence.compared(), 0);
        assert_eq!(divergence.finish(), []);
    }

    fn case(driver: Option<&str>, outcome: Outcome, refusal: Refusal) -> CaseRecord {
        let mut values: IndexMap<String, String> = [("deployment".to_owned(), "documented".to_owned())].into_iter().collect();
        values.extend(driver.map(|driver| ("driver".to_owned(), driver.to_owned())));
        let client = ClientObservation {
            outcome: ClientOutcome::Refused(Refused { refusal, stage: None, sqlstate: None, text: String::new() }),
            phases: Phases::default(),
            settings: BTreeMap::new(),
        };
        let observed = Some(Observation { client, server_log: vec![], wire: None });
        CaseRecord {
            id: "postgres/x:".to_owned(),
            scenario: "postgres/x".to_owned(),
            values,
            deployment: "documented".to_owned(),
            outcome,
            claims: vec![],
            steps: vec![StepRecord { expected: serde_json::Value::Null, observed, command: None, output: None }],
            timeline: None,
            client: None,
            phases: None,
            connections: 1,
            control: None,
            duration_ms: 1.0,
            evidence: None,
            evidence_error: None,
            repro: String::new(),
        }
    }

    #[test]
    fn failed_and_deviating_cases_are_compared_but_not_those_without_a_verdict_or_a_driver_axis() {
        let unknown_ca = Refusal::Alert(Alert::UnknownCa);
        let closed = Refusal::Closed(Stage::Handshake);
        let mut divergence = Divergence::new();
        divergence.add(&case(Some("libpq-18"), Outcome::Pass, unknown_ca));
        divergence.add(&case(Some("rustls"), Outcome::Deviates { deviation: "rustls.closed".to_owned() }, closed));
        divergence.add(&case(Some("libpq-17"), Outcome::Fail(vec![]), closed));
        divergence.add(&case(Some("libpq-16"), Outcome::Errored { kind: ErrorKind::Lost, text: "no log".to_owned() }, closed));
        divergence.add(&case(Some("libpq-15"), Outcome::Skipped(SkipReason::FailFast), closed));
        divergence.add(&case(None, Outcome::Pass, closed));
        let records = divergence.finish();
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0].situation, "postgres/x:deployment=documented");
        assert_eq!(records[0].observed.keys().collect::<Vec<_>>(), ["libpq-17", "libpq-18", "rustls"]);
        assert_eq!(records[0].divergent, ["libpq-17", "rustls"]);
        assert_eq!(records[0].observed["rustls"], "closed: handshake");
    }
}
