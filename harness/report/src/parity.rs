//! Two runs of the same cases in two environments: where they disagree, and which of that is known.
//!
//! Compared is what a case says of behaviour: outcome, witnesses that failed, what the client's session or refusal was, what the wire saw,
//! and the claims' verdicts. Addresses, ports, times, serial numbers, paths and versions of programs are the environments' own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use globset::Glob;

use check::short::short_form;
use model::observation::{ClientOutcome, Observation};
use model::outcome::Outcome;
use model::report::{CaseRecord, ClaimRecord, Report};

/// One thing that two reports tell differently.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The case's id, or `claim ID`.
    pub place: String,
    /// What is compared: `outcome`, `step 0 client`, `step 0 wire`, `verdict`, ...
    pub what: String,
    /// What the first report says, with its reason where it has one; `nothing` where it doesn't know the place.
    pub one: String,
    /// What the second report says.
    pub other: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}: {} / {}", self.place, self.what, self.one, self.other)
    }
}

/// A difference that is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known<'a> {
    /// Glob over [`Difference::place`].
    pub places: &'a str,
    /// Glob over [`Difference::what`].
    pub what: &'a str,
    /// Why it is legitimate.
    pub reason: &'a str,
}

/// Differences sorted by what is known of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sorted {
    /// Those that nothing explains.
    pub unexplained: Vec<Difference>,
    /// Reason to how many it explains.
    pub explained: BTreeMap<String, usize>,
    /// Known differences that were not seen, or whose glob is none: each with its reason.
    pub unused: Vec<String>,
}

/// What is told, and what is compared of it.
struct Fact {
    compared: String,
    told: String,
}

impl From<String> for Fact {
    fn from(compared: String) -> Self {
        Self { told: compared.clone(), compared }
    }
}

/// What the reports tell differently, by place.
#[must_use]
pub fn compare(one: &Report, other: &Report) -> Vec<Difference> {
    let facts = |report: &Report| -> BTreeMap<String, BTreeMap<String, Fact>> {
        let cases = report.cases.iter().map(|case| (case.id.clone(), of_case(case)));
        cases.chain(report.claims.iter().map(|claim| (format!("claim {}", claim.id), of_claim(claim)))).collect()
    };
    let (one, other) = (facts(one), facts(other));
    let places: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    places.into_iter().flat_map(|place| differences(place, one.get(place), other.get(place))).collect()
}

fn differences(place: &str, one: Option<&BTreeMap<String, Fact>>, other: Option<&BTreeMap<String, Fact>>) -> Vec<Difference> {
    let kinds: BTreeSet<&String> = one.into_iter().chain(other).flat_map(BTreeMap::keys).collect();
    let of = |facts: Option<&BTreeMap<String, Fact>>, what: &str| {
        facts
            .and_then(|facts| facts.get(what))
            .map_or(("nothing".to_owned(), None), |fact| (fact.told.clone(), Some(fact.compared.clone())))
    };
    let differ = kinds.into_iter().filter_map(|what| {
        let ((one, compared), (other, with)) = (of(one, what), of(other, what));
        (compared != with).then(|| Difference { place: place.to_owned(), what: what.clone(), one, other })
    });
    differ.collect()
}

/// Sorts differences by the first known one that matches.
#[must_use]
pub fn sort(differences: Vec<Difference>, known: &[Known<'_>]) -> Sorted {
    let matchers: Vec<_> = known
        .iter()
        .map(|known| Some((Glob::new(known.places).ok()?.compile_matcher(), Glob::new(known.what).ok()?.compile_matcher())))
        .collect();
    let mut used = BTreeSet::new();
    let mut sorted = Sorted::default();
    for difference in differences {
        let matches = matchers.iter().position(|matcher| {
            matcher.as_ref().is_some_and(|(places, what)| places.is_match(&difference.place) && what.is_match(&difference.what))
        });
        match matches.and_then(|index| Some((index, known.get(index)?))) {
            Some((index, known)) => {
                used.insert(index);
                *sorted.explained.entry(known.reason.to_owned()).or_default() += 1;
            }
            None => sorted.unexplained.push(difference),
        }
    }
    let unused = known.iter().enumerate().filter(|(index, _)| !used.contains(index));
    sorted.unused = unused.map(|(_, known)| format!("{} {}: {}", known.places, known.what, known.reason)).collect();
    sorted
}

fn of_case(case: &CaseRecord) -> BTreeMap<String, Fact> {
    let mut facts = BTreeMap::from([("outcome".to_owned(), of_outcome(&case.outcome))]);
    for (index, step) in case.steps.iter().enumerate() {
        let Some(observed) = &step.observed else { continue };
        facts.insert(format!("step {index} client"), of_client(observed).into());
        if let Some(wire) = &observed.wire {
            let connections = wire.connections.iter().map(|connection| {
                let hello = connection.client_hello.as_ref().map(|hello| format!(" {:?} {:?}", hello.sni, hello.alpn)).unwrap_or_default();
                format!("{:?}{hello} {:?} {:?}", connection.events, connection.tls_version, connection.alerts)
            });
            facts.insert(format!("step {index} wire"), connections.collect::<Vec<_>>().join("; ").into());
        }
    }
    facts
}

/// Reasons are told; of failures, who saw what kind of thing is compared.
fn of_outcome(outcome: &Outcome) -> Fact {
    let name = outcome.kind().name().to_owned();
    match outcome {
        Outcome::Pass => name.into(),
        Outcome::Fail(mismatches) => {
            let who = mismatches.iter().map(|mismatch| format!("{} {:?} {}", mismatch.step, mismatch.witness, mismatch.what));
            let seen = mismatches.iter().map(|mismatch| format!("{} instead of {}", mismatch.observed, mismatch.expected));
            let compared = format!("{name}: {}", who.collect::<Vec<_>>().join(", "));
            Fact { told: format!("{compared} ({})", seen.collect::<Vec<_>>().join("; ")), compared }
        }
        Outcome::Deviates { deviation } | Outcome::UnexpectedPass { deviation } => format!("{name}: {deviation}").into(),
        Outcome::Skipped(reason) => Fact { told: format!("{name}: {reason}"), compared: name },
        Outcome::TimedOut(reason) => Fact { told: format!("{name}: {reason}"), compared: name },
        Outcome::Errored { kind, text } => Fact { told: format!("{name} ({kind}): {text}"), compared: format!("{name} ({kind})") },
    }
}

fn of_client(observed: &Observation) -> String {
    let short = short_form(&observed.client);
    match &observed.client.outcome {
        ClientOutcome::Refused(refused) => format!("{short} {:?} {:?}", refused.stage, refused.sqlstate),
        ClientOutcome::Session(session) => {
            let view = session.server_view.as_ref();
            let view = view.map(|view| format!(" server: tls {} {:?} {:?} {:?}", view.ssl, view.user, view.client_dn, view.issuer_dn));
            format!("{short} {:?} {:?}{}", session.version, session.alpn, view.unwrap_or_default())
        }
    }
}

fn of_claim(claim: &ClaimRecord) -> BTreeMap<String, Fact> {
    let reason = claim.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let compared = format!("{:?} {:?}", claim.verdict, claim.by_deployment);
    [("verdict".to_owned(), Fact { told: format!("{compared}{reason}"), compared })].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use model::outcome::SkipReason;

    fn report() -> Report {
        serde_json::from_str(&fixture::written(&fixture::cases(), crate::json::write)).expect("is a report")
    }

    #[test]
    fn a_report_agrees_with_itself_at_another_time_and_in_another_place() {
        let one = report();
        let mut other = one.clone();
        other.started_at = "2030-01-01T00:00:00Z".to_owned();
        for case in &mut other.cases {
            case.duration_ms += 1000.0;
            case.repro.push_str(" --environment container");
        }
        assert_eq!(compare(&one, &other), []);
    }

    #[test]
    fn outcomes_sessions_verdicts_and_missing_cases_are_differences() {
        let one = report();
        let mut other = one.clone();
        let gone = other.cases.remove(0);
        let skipped = other.cases.iter_mut().find(|case| case.outcome == Outcome::Pass).expect("one passes");
        skipped.outcome = Outcome::Skipped(SkipReason::EnvironmentUnable("no such thing here".to_owned()));
        let skipped = skipped.id.clone();
        let session = other.cases.iter_mut().flat_map(|case| {
            let id = case.id.clone();
            case.steps.iter_mut().filter_map(move |step| match &mut step.observed.as_mut()?.client.outcome {
                ClientOutcome::Session(session) => Some((id.clone(), session)),
                ClientOutcome::Refused(_) => None,
            })
        });
        let (session, facts) = session.into_iter().next().expect("one has a session");
        facts.alpn = Some("changed".to_owned());
        let claim = &mut other.claims[0];
        claim.by_deployment.insert("elsewhere".to_owned(), claim.verdict);
        let found = compare(&one, &other);
        let has = |place: &str, what: &str| found.iter().any(|found| found.place == place && found.what == what);
        assert!(has(&gone.id, "outcome") && has(&skipped, "outcome"), "{found:#?}");
        assert!(found.iter().any(|found| found.place == session && found.what.ends_with(" client")), "{found:#?}");
        assert!(has(&format!("claim {}", one.claims[0].id), "verdict"), "{found:#?}");
        assert!(found.iter().any(|found| found.other == "skipped: no such thing here"), "a reason is told: {found:#?}");
        assert!(found.iter().any(|found| found.place == gone.id && found.other == "nothing"), "{found:#?}");
    }

    #[test]
    fn known_differences_explain_and_those_that_are_not_seen_are_named() {
        let difference = |place: &str, what: &str| Difference {
            place: place.to_owned(),
            what: what.to_owned(),
            one: String::new(),
            other: String::new(),
        };
        let found = vec![difference("faults/cut:a", "outcome"), difference("faults/cut:b", "outcome"), difference("x:c", "step 0 client")];
        let known = |places, what, reason| Known { places, what, reason };
        let table = [known("faults/cut*", "outcome", "local can't"), known("x:*", "outcome", "never seen"), known("x:*", "[", "no glob")];
        let sorted = sort(found, &table);
        assert_eq!(sorted.explained, [("local can't".to_owned(), 2)].into());
        assert_eq!(sorted.unexplained, [difference("x:c", "step 0 client")]);
        assert_eq!(sorted.unused, ["x:* outcome: never seen", "x:* [: no glob"]);
    }
}
