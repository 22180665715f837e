//! Counts over cases that a summary shows beside the totals.

use std::collections::{BTreeMap, HashMap};

use super::failure;

use model::outcome::{ErrorKind, Outcome, OutcomeKind, SkipReason};
use model::report::CaseRecord;

/// Groups of equal failures that a tally keeps; cases of later ones are counted.
const KEPT_GROUPS: usize = 1000;
/// Reasons of missing evidence that a tally keeps.
const KEPT_REASONS: usize = 4;
/// What stands for the others.
const MORE_REASONS: &str = "and for such reasons, which the json report has";
/// Ids that a group keeps; the rest is counted.
const KEPT_IDS: usize = 8;

/// Cases that failed alike.
#[derive(Debug, Clone)]
pub struct FailureGroup {
    /// The outcome's name, such as `errored`.
    pub outcome: &'static str,
    /// The first case's failure in one line.
    pub headline: String,
    /// The ids of the first of them.
    pub ids: Vec<String>,
    /// How many they are.
    pub cases: usize,
}

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
    /// Number of cases whose evidence is missing or not complete, by the reason.
    pub unkept: BTreeMap<String, usize>,
    /// Whether a case was skipped since the run was interrupted.
    pub interrupted: bool,
    /// The cases that are counted in `failing` and `erroring`, equal ones together, in the order of their first.
    pub groups: Vec<FailureGroup>,
    /// From what equal failures have in common to the index of their group.
    by_signature: HashMap<String, usize>,
}

impl Tally {
    /// Counts a case, which is told once: what comes twice counts twice.
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
        if kind.is_failure() || kind.is_error() {
            self.group(case);
        }
        if let Some(error) = &case.evidence_error {
            // Reasons name files, which differ from case to case: the first ones stand for all.
            let known = self.unkept.contains_key(error) || self.unkept.len() < KEPT_REASONS;
            let reason = if known { error.as_str() } else { MORE_REASONS };
            *self.unkept.entry(reason.to_owned()).or_default() += 1;
        }
    }

    fn group(&mut self, case: &CaseRecord) {
        let signature = failure::signature(case);
        let index = match self.by_signature.get(&signature) {
            Some(index) => *index,
            None if self.groups.len() == KEPT_GROUPS => return,
            None => {
                let (outcome, headline) = (case.outcome.kind().name(), failure::headline(case));
                self.groups.push(FailureGroup { outcome, headline, ids: Vec::new(), cases: 0 });
                self.by_signature.insert(signature, self.groups.len() - 1);
                self.groups.len() - 1
            }
        };
        let group = &mut self.groups[index];
        group.cases += 1;
        if group.ids.len() < KEPT_IDS {
            group.ids.push(case.id.clone());
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
