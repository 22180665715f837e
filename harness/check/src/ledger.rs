//! The claim ledger: folds cases into one verdict a claim.
//!
//! The rules: a claim whose subjects are all emulated or missing is never exercised, whatever its cases say. Otherwise one case that
//! deviates, fails or passes unexpectedly refutes it; else one case that passed confirms it; else it was not exercised, for a reason.
//! A deviation refutes the claims it names: for the case's other claims such a case says nothing.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use thiserror::Error;

use model::claim::{Awaits, Claim, Subject, Verdict};
use model::outcome::{Outcome, OutcomeKind};
use model::report::ClaimRecord;

/// Observed texts of deviations that a reason lists before it counts the rest.
const LISTED_TEXTS: usize = 3;

/// Why a claim was not exercised that scenarios name, but no case of the run.
pub const NOT_SELECTED: &str = "no case that bears on it was selected";

/// What a case says to the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The id, with the values of its axes: `postgres/unset:driver=rustls`.
    pub case: &'a str,
    /// Which deployment its server was configured as: `documented`, `cnpg`.
    pub deployment: &'a str,
    /// The claims that it bears on.
    pub claims: &'a [String],
    /// How the case ended; for a deviation, `deviation` tells more.
    pub outcome: &'a Outcome,
    /// For [`Outcome::Deviates`]: what the deviation says.
    pub deviation: Option<Refuting<'a>>,
}

/// What a known deviation says about claims.
#[derive(Debug, Clone, Copy)]
pub struct Refuting<'a> {
    /// The claims that it refutes.
    pub claims: &'a [String],
    /// What is observed instead, in one line.
    pub observed: &'a str,
}

/// A case that the ledger can't take.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LedgerError {
    /// It names a claim that is not loaded.
    #[error("case `{case}` bears on the claim `{claim}`, which no claims file has: was it renamed?")]
    UnknownClaim {
        /// The id of the case that can't be counted for it.
        case: String,
        /// The id that no claim has.
        claim: String,
    },
}

/// Accumulates evidence. For each claim it keeps counts, a few texts and the numbers of its cases, whose ids are stored once.
#[derive(Debug)]
pub struct Ledger {
    environment: String,
    real: BTreeSet<Subject>,
    accounts: IndexMap<String, ClaimTally>,
    cases: Vec<Box<str>>,
}

#[derive(Debug)]
struct ClaimTally {
    claim: Claim,
    outcomes: BTreeMap<OutcomeKind, usize>,
    deployments: BTreeMap<String, Tally>,
    /// Indices into the ledger's `cases`.
    cases: Vec<u32>,
    /// The failure of the case that is first by id: cases end in any order, and a report must not depend on it.
    unexplained: Option<(String, String)>,
    /// The summaries of the deviations that refute it, each once.
    observed: BTreeSet<String>,
    /// Why cases said nothing, with their number.
    silent: BTreeMap<String, usize>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    supporting: usize,
    refuting: usize,
}

impl Tally {
    fn verdict(self) -> Verdict {
        match self {
            Self { refuting: 1.., .. } => Verdict::Refuted,
            Self { supporting: 1.., .. } => Verdict::Confirmed,
            Self { .. } => Verdict::NotExercised,
        }
    }
}

/// What one case is to one claim.
enum Weight {
    Supports,
    Refutes,
    SaysNothing(String),
}

impl Ledger {
    /// An empty ledger of these claims, for an environment of that name in which these subjects are real.
    #[must_use]
    pub fn new(claims: &[Claim], environment: &str, real: &[Subject]) -> Self {
        let account = |claim: &Claim| ClaimTally {
            claim: claim.clone(),
            outcomes: BTreeMap::new(),
            deployments: BTreeMap::new(),
            cases: Vec::new(),
            unexplained: None,
            observed: BTreeSet::new(),
            silent: BTreeMap::new(),
        };
        Self {
            environment: environment.to_owned(),
            real: real.iter().copied().collect(),
            accounts: claims.iter().map(|claim| (claim.id.clone(), account(claim))).collect(),
            cases: Vec::new(),
        }
    }

    /// Takes one case. A claim that the deviation refutes and the case does not name is refuted all the same.
    ///
    /// # Errors
    ///
    /// Where the case names a claim that is not loaded; the other claims are credited before that is returned.
    pub fn add(&mut self, evidence: &Evidence<'_>) -> Result<(), LedgerError> {
        // More than u32::MAX cases do not fit into memory as ids.
        let index = u32::try_from(self.cases.len()).unwrap_or(u32::MAX);
        self.cases.push(evidence.case.into());
        let refuted = evidence.deviation.map_or(&[][..], |deviation| deviation.claims);
        let named: BTreeSet<&String> = evidence.claims.iter().chain(refuted).collect();
        let mut unknown = None;
        for claim in named {
            match self.accounts.get_mut(claim) {
                Some(account) => account.add(index, evidence),
                None => unknown = Some(LedgerError::UnknownClaim { case: evidence.case.to_owned(), claim: claim.clone() }),
            }
        }
        unknown.map_or(Ok(()), Err)
    }

    /// Every claim with its verdict, in the order in which claims were given.
    #[must_use]
    pub fn finish(&self) -> Vec<ClaimRecord> {
        self.accounts.values().map(|account| self.record(account)).collect()
    }

    fn record(&self, account: &ClaimTally) -> ClaimRecord {
        let claim = &account.claim;
        let (real, not_real): (Vec<Subject>, Vec<Subject>) = claim.subject.iter().partition(|subject| self.real.contains(subject));
        let (verdict, reason) = if real.is_empty() {
            (Verdict::NotExercised, Some(not_real_reason(&not_real, &self.environment, claim.awaits.as_ref())))
        } else {
            let sum = account.deployments.values().fold(Tally::default(), |sum, one| Tally {
                supporting: sum.supporting + one.supporting,
                refuting: sum.refuting + one.refuting,
            });
            match sum.verdict() {
                Verdict::Refuted => (Verdict::Refuted, Some(account.refuted_reason())),
                Verdict::Confirmed => (Verdict::Confirmed, None),
                Verdict::NotExercised => (Verdict::NotExercised, Some(account.silent_reason())),
            }
        };
        let by_deployment = if real.is_empty() || account.deployments.len() < 2 {
            BTreeMap::new()
        } else {
            account.deployments.iter().map(|(name, tally)| (name.clone(), tally.verdict())).collect()
        };
        let mut cases: Vec<String> =
            account.cases.iter().filter_map(|index| self.cases.get(*index as usize)).map(ToString::to_string).collect();
        cases.sort();
        ClaimRecord {
            id: claim.id.clone(),
            statement: claim.statement.clone(),
            source: format!("{}, {}", claim.document, claim.section),
            verdict,
            reason,
            by_deployment,
            subjects_not_real: not_real,
            outcomes: account.outcomes.clone(),
            cases,
        }
    }
}

/// Number of claims by verdict, as [`model::report::Totals`] has it; verdicts that no claim has are there with 0.
#[must_use]
pub fn count(claims: &[ClaimRecord]) -> BTreeMap<String, usize> {
    [Verdict::Confirmed, Verdict::Refuted, Verdict::NotExercised]
        .into_iter()
        .map(|verdict| (name(verdict).to_owned(), claims.iter().filter(|claim| claim.verdict == verdict).count()))
        .collect()
}

/// A verdict's name in reports.
#[must_use]
pub fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Confirmed => "confirmed",
        Verdict::Refuted => "refuted",
        Verdict::NotExercised => "not-exercised",
    }
}

impl ClaimTally {
    fn add(&mut self, index: u32, evidence: &Evidence<'_>) {
        self.cases.push(index);
        *self.outcomes.entry(evidence.outcome.kind()).or_default() += 1;
        let weight = self.weigh(evidence);
        let tally = match self.deployments.get_mut(evidence.deployment) {
            Some(tally) => tally,
            None => self.deployments.entry(evidence.deployment.to_owned()).or_default(),
        };
        match weight {
            Weight::Supports => tally.supporting += 1,
            Weight::Refutes => tally.refuting += 1,
            Weight::SaysNothing(reason) => *self.silent.entry(reason).or_default() += 1,
        }
    }

    /// What the case is to this claim; the texts of a refutation are kept.
    fn weigh(&mut self, evidence: &Evidence<'_>) -> Weight {
        match evidence.outcome {
            Outcome::Pass => Weight::Supports,
            Outcome::Deviates { deviation } => match evidence.deviation {
                Some(refuting) if refuting.claims.contains(&self.claim.id) => {
                    self.observed.insert(refuting.observed.to_owned());
                    Weight::Refutes
                }
                _ => Weight::SaysNothing(format!("its cases show the deviation `{deviation}`, which is about other claims")),
            },
            Outcome::Fail(mismatches) => {
                let text = mismatches.first().map_or_else(
                    || "no mismatch is recorded".to_owned(),
                    |first| format!("{}: expected {}, observed {}", first.what, first.expected, first.observed),
                );
                self.unexplained(evidence.case, text);
                Weight::Refutes
            }
            Outcome::UnexpectedPass { deviation } => {
                self.unexplained(evidence.case, format!("the known deviation `{deviation}` was not seen"));
                Weight::Refutes
            }
            Outcome::Skipped(reason) => Weight::SaysNothing(reason.to_string()),
            Outcome::Errored { text, .. } => Weight::SaysNothing(format!("errored: {}", first_line(text))),
            Outcome::TimedOut(text) => Weight::SaysNothing(format!("timed out: {}", first_line(text))),
        }
    }

    fn unexplained(&mut self, case: &str, text: String) {
        if self.unexplained.as_ref().is_none_or(|(first, _)| case < first.as_str()) {
            self.unexplained = Some((case.to_owned(), text));
        }
    }

    fn refuted_reason(&self) -> String {
        let mut texts: Vec<String> = self.unexplained.iter().map(|(_, text)| format!("unexplained: {text}")).collect();
        texts.extend(self.observed.iter().take(LISTED_TEXTS).cloned());
        let rest = self.observed.len().saturating_sub(LISTED_TEXTS);
        if rest > 0 {
            texts.push(format!("and {rest} more"));
        }
        texts.join("; ")
    }

    fn silent_reason(&self) -> String {
        // Of reasons that are equally frequent, the first by name: the same in every run.
        let most = self.silent.iter().max_by(|(one, count), (other, most)| count.cmp(most).then_with(|| other.cmp(one)));
        match (most, &self.claim.awaits) {
            (Some((reason, _)), _) => reason.clone(),
            (None, Some(awaits)) => format!("needs {}: {}", awaits.needs, awaits.reason),
            (None, None) => NOT_SELECTED.to_owned(),
        }
    }
}

/// Why nothing here can speak of these subjects, and what could.
fn not_real_reason(subjects: &[Subject], environment: &str, awaits: Option<&Awaits>) -> String {
    let mut seen = BTreeSet::new();
    let reasons: Vec<String> = subjects
        .iter()
        .filter(|subject| seen.insert(**subject))
        .map(|subject| match subject {
            Subject::CertManager | Subject::Cnpg => format!("{} is emulated by the {environment} environment", subject_name(*subject)),
            Subject::Helm | Subject::Nautobot => {
                format!("{} does not run in the {environment} environment", subject_name(*subject))
            }
            Subject::Postgres
            | Subject::Libpq
            | Subject::Redis
            | Subject::Openssl
            | Subject::Clients
            | Subject::Config
            | Subject::Gateway => {
                format!("{} was not found here", subject_name(*subject))
            }
        })
        .collect();
    let installable = |subject: &Subject| !matches!(subject, Subject::CertManager | Subject::Cnpg | Subject::Helm | Subject::Nautobot);
    let remedy = match awaits {
        Some(awaits) => format!("needs {}", awaits.needs),
        None if subjects.iter().all(installable) => "`mtls-conformance doctor` says what brings it".to_owned(),
        None => "needs kind".to_owned(),
    };
    if reasons.is_empty() { "it names no subject".to_owned() } else { format!("{}: {remedy}", reasons.join(" and ")) }
}

/// A subject's name as its makers write it.
#[must_use]
pub fn subject_name(subject: Subject) -> &'static str {
    match subject {
        Subject::Postgres => "PostgreSQL",
        Subject::Libpq => "libpq",
        Subject::Redis => "Redis",
        Subject::Openssl => "openssl",
        Subject::Clients => "the client programs",
        Subject::Config => "the deployment's configuration",
        Subject::CertManager => "cert-manager",
        Subject::Cnpg => "CloudNativePG",
        Subject::Helm => "Helm",
        Subject::Nautobot => "Nautobot",
        Subject::Gateway => "a TLS-passthrough gateway",
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
