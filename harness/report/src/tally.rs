//! Counts over cases that a summary shows beside the totals.

use std::collections::BTreeMap;

use model::outcome::{ErrorKind, Outcome, OutcomeKind, SkipReason};
use model::report::CaseRecord;

/// Ids of failed cases that a tally keeps; the rest is counted.
const KEPT_IDS: usize = 1000;

/// Accumulates them, case by case.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Number of cases taken.
    pub cases: usize,
    /// Number of skipped cases by reason.
    pub skipped: BTreeMap<String, usize>,
    /// Number of cases by the deviation they showed.
    pub deviations: BTreeMap<String, usize>,
    /// Number of cases that failed or passed unexpectedly.
    pub failing: usize,
    /// Number of cases that errored or timed out.
    pub erroring: usize,
    /// Number of errored cases by what failed.
    pub errors: BTreeMap<ErrorKind, usize>,
    /// Whether a case was skipped since the run was interrupted.
    pub interrupted: bool,
    /// Id and outcome name of the first failing and erroring cases.
    pub unsound: Vec<(String, &'static str)>,
}

impl Tally {
    /// Takes a case.
    pub fn add(&mut self, case: &CaseRecord) {
        self.cases += 1;
        let kind = case.outcome.kind();
        match &case.outcome {
            Outcome::Skipped(reason) => {
                self.interrupted |= *reason == SkipReason::Interrupted;
                *self.skipped.entry(reason.to_string()).or_default() += 1;
            }
            Outcome::Deviates { deviation } => *self.deviations.entry(deviation.clone()).or_default() += 1,
            Outcome::Pass | Outcome::Fail(_) | Outcome::UnexpectedPass { .. } | Outcome::TimedOut(_) => {}
            Outcome::Errored { kind, .. } => *self.errors.entry(*kind).or_default() += 1,
        }
        self.failing += usize::from(kind.is_failure());
        self.erroring += usize::from(kind.is_error());
        if (kind.is_failure() || kind.is_error()) && self.unsound.len() < KEPT_IDS {
            self.unsound.push((case.id.clone(), kind.name()));
        }
    }

    /// An outcome's name; that of errors with what failed: `errored (2 start, 1 client)`.
    #[must_use]
    pub fn outcome_name(&self, kind: OutcomeKind) -> String {
        if kind != OutcomeKind::Errored || self.errors.is_empty() {
            return kind.name().to_owned();
        }
        let errors: Vec<String> = self.errors.iter().map(|(error, count)| format!("{count} {error}")).collect();
        format!("{} ({})", kind.name(), errors.join(", "))
    }

    /// Pairs by number, the largest first.
    #[must_use]
    pub fn ranked(counts: &BTreeMap<String, usize>) -> Vec<(&str, usize)> {
        let mut ranked: Vec<(&str, usize)> = counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        ranked.sort_by(|(one, count), (other, larger)| larger.cmp(count).then_with(|| one.cmp(other)));
        ranked
    }
}
