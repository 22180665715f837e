//! The rows of `expect` in a scenario, of its steps or of its timeline's phases alike.

use serde_saphyr::Spanned;

use model::scenario::Scenario;
use model::text::Text;
use model::when::When;

/// One row of `expect`, of a step or of a phase.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its index in its `expect`.
    pub index: usize,
    /// Which cases it is for.
    pub when: &'a When,
    /// Its own claims, in place of the scenario's.
    pub claims: Option<&'a Vec<Text>>,
    /// Line and column of the row in its file, from 1.
    pub place: (u64, u64),
}

/// The rows by step or by phase, in the file's order.
pub fn rows(scenario: &Scenario) -> Vec<Vec<Row<'_>>> {
    fn each<'a, T>(expect: &'a [Spanned<T>], of: impl Fn(&'a T) -> (&'a When, Option<&'a Vec<Text>>)) -> Vec<Row<'a>> {
        let row = |(index, row): (usize, &'a Spanned<T>)| {
            let (when, claims) = of(&row.value);
            Row { index, when, claims, place: (row.referenced.line(), row.referenced.column()) }
        };
        expect.iter().enumerate().map(row).collect()
    }
    let steps = scenario.steps.iter().map(|step| each(&step.expect, |row| (&row.when, row.claims.as_ref())));
    let phases = scenario.timeline.iter().flat_map(|timeline| &timeline.phases);
    steps.chain(phases.map(|phase| each(&phase.expect, |row| (&row.when, row.claims.as_ref())))).collect()
}

/// The key below which they stand, for errors: `steps`, or `timeline` and `phases`.
pub fn keys(scenario: &Scenario) -> &'static [&'static str] {
    if scenario.timeline.is_some() { &["timeline", "phases"] } else { &["steps"] }
}
