use super::*;
use model::outcome::{ErrorKind, Mismatch, SkipReason, Witness};

const REAL: [Subject; 3] = [Subject::Postgres, Subject::Libpq, Subject::Config];

fn claim(id: &str, subject: &[Subject]) -> Claim {
    Claim {
        id: id.to_owned(),
        statement: "it is so".to_owned(),
        document: "guide.md".to_owned(),
        section: "Modes".to_owned(),
        subject: subject.to_vec(),
        awaits: None,
    }
}

fn failed(observed: &str) -> Outcome {
    Outcome::Fail(vec![Mismatch {
        step: 0,
        witness: Witness::Client,
        what: "refused".to_owned(),
        expected: "alert: unknown-ca".to_owned(),
        observed: observed.to_owned(),
    }])
}

fn deviates() -> Outcome {
    Outcome::Deviates { deviation: "cnpg.plaintext".to_owned() }
}

fn unexpected() -> Outcome {
    Outcome::UnexpectedPass { deviation: "cnpg.plaintext".to_owned() }
}

fn skipped(what: &str) -> Outcome {
    Outcome::Skipped(SkipReason::ServerMissing(what.to_owned()))
}

/// The record of claim `a` after these cases, given as deployment and outcome; deviations refute `refutes`.
fn verdict_of(subject: &[Subject], cases: &[(&str, Outcome)], refutes: &str) -> ClaimRecord {
    let mut ledger = Ledger::new(&[claim("a", subject), claim("b", subject)], "local", &REAL);
    let refuted = [refutes.to_owned()];
    for (index, (deployment, outcome)) in cases.iter().enumerate() {
        let deviation = matches!(outcome, Outcome::Deviates { .. })
            .then_some(Refuting { claims: &refuted, observed: "plaintext with a password is let in" });
        ledger
            .add(&Evidence { case: &format!("case-{index}"), deployment, claims: &["a".to_owned()], outcome, deviation })
            .expect("known claims");
    }
    ledger.finish().remove(0)
}

#[test]
fn verdicts_follow_from_outcomes() {
    let refuted_text = Some("plaintext with a password is let in");
    let table: &[(&str, &[Outcome], Verdict, Option<&str>)] = &[
        ("one pass", &[Outcome::Pass], Verdict::Confirmed, None),
        (
            "a pass among skipped and errored",
            &[skipped("x"), Outcome::Pass, Outcome::Errored { kind: ErrorKind::Start, text: "y".to_owned() }],
            Verdict::Confirmed,
            None,
        ),
        ("a pass and a deviation", &[Outcome::Pass, deviates()], Verdict::Refuted, refuted_text),
        ("the same deviation twice is said once", &[deviates(), deviates()], Verdict::Refuted, refuted_text),
        (
            "a pass and a failure",
            &[Outcome::Pass, failed("tls session")],
            Verdict::Refuted,
            Some("unexplained: refused: expected alert: unknown-ca, observed tls session"),
        ),
        (
            "a failure and a deviation: the unexplained comes first",
            &[deviates(), failed("tls session")],
            Verdict::Refuted,
            Some("unexplained: refused: expected alert: unknown-ca, observed tls session; plaintext with a password is let in"),
        ),
        (
            "an unexpected pass",
            &[unexpected(), Outcome::Pass],
            Verdict::Refuted,
            Some("unexplained: the known deviation `cnpg.plaintext` was not seen"),
        ),
        (
            "only skipped: the most frequent reason",
            &[skipped("postgres-18 is not installed"), skipped("postgres-17 is not installed"), skipped("postgres-18 is not installed")],
            Verdict::NotExercised,
            Some("postgres-18 is not installed"),
        ),
        ("skipped for two reasons as often", &[skipped("b"), skipped("a")], Verdict::NotExercised, Some("a")),
        (
            "only errored: the first line of its text",
            &[Outcome::Errored { kind: ErrorKind::Start, text: "the server ended early\nlog follows".to_owned() }],
            Verdict::NotExercised,
            Some("errored: the server ended early"),
        ),
        ("only timed out", &[Outcome::TimedOut("case, 10 s".to_owned())], Verdict::NotExercised, Some("timed out: case, 10 s")),
        ("no case", &[], Verdict::NotExercised, Some("no case that bears on it was selected")),
    ];
    for (name, outcomes, verdict, reason) in table {
        let cases: Vec<(&str, Outcome)> = outcomes.iter().map(|outcome| ("documented", outcome.clone())).collect();
        let record = verdict_of(&[Subject::Postgres], &cases, "a");
        assert_eq!((record.verdict, record.reason.as_deref()), (*verdict, *reason), "{name}");
        assert_eq!(record.cases.len(), outcomes.len(), "{name}");
        assert_eq!(record.outcomes.values().sum::<usize>(), outcomes.len(), "{name}");
        assert!(record.by_deployment.is_empty(), "{name}: there is one deployment");
    }
}

#[test]
fn a_claim_about_emulated_subjects_alone_is_not_exercised_even_if_its_cases_passed() {
    for outcome in [Outcome::Pass, deviates(), failed("x")] {
        let record = verdict_of(&[Subject::CertManager], &[("documented", outcome.clone()), ("cnpg", outcome)], "a");
        assert_eq!(record.verdict, Verdict::NotExercised);
        assert_eq!(record.reason.as_deref(), Some("cert-manager is emulated by the local environment: needs kind"));
        assert_eq!(record.subjects_not_real, [Subject::CertManager]);
        assert_eq!(record.cases.len(), 2, "its cases are listed all the same");
        assert!(record.by_deployment.is_empty());
    }
    let reason = |subjects: &[Subject]| verdict_of(subjects, &[], "a").reason.expect("has one");
    assert_eq!(
        reason(&[Subject::Cnpg, Subject::Nautobot]),
        "CloudNativePG is emulated by the local environment and Nautobot does not run in the local environment: needs kind"
    );
    assert_eq!(reason(&[Subject::Redis]), "Redis was not found here: `mtls-conformance doctor` says what brings it");
}

#[test]
fn a_mixed_claim_is_judged_by_its_real_subjects_and_lists_the_others() {
    let record = verdict_of(&[Subject::Cnpg, Subject::Postgres], &[("documented", Outcome::Pass)], "a");
    assert_eq!((record.verdict, record.reason), (Verdict::Confirmed, None));
    assert_eq!(record.subjects_not_real, [Subject::Cnpg]);
}

#[test]
fn deployments_have_verdicts_of_their_own() {
    let cases = [("documented", Outcome::Pass), ("cnpg", deviates()), ("cnpg", Outcome::Pass), ("other", skipped("x"))];
    let record = verdict_of(&[Subject::Postgres], &cases, "a");
    assert_eq!(record.verdict, Verdict::Refuted);
    let by_deployment: Vec<(&str, Verdict)> = record.by_deployment.iter().map(|(name, verdict)| (name.as_str(), *verdict)).collect();
    assert_eq!(by_deployment, [("cnpg", Verdict::Refuted), ("documented", Verdict::Confirmed), ("other", Verdict::NotExercised)]);
}

#[test]
fn two_deployments_are_enough_for_verdicts_by_deployment() {
    let record = verdict_of(&[Subject::Postgres], &[("documented", Outcome::Pass), ("cnpg", deviates())], "a");
    let by_deployment: Vec<(&str, Verdict)> = record.by_deployment.iter().map(|(name, verdict)| (name.as_str(), *verdict)).collect();
    assert_eq!(by_deployment, [("cnpg", Verdict::Refuted), ("documented", Verdict::Confirmed)]);
}

#[test]
fn of_a_case_that_failed_twice_the_first_text_is_the_reason() {
    let mut ledger = Ledger::new(&[claim("a", &[Subject::Postgres])], "local", &REAL);
    for observed in ["first", "second"] {
        let outcome = failed(observed);
        let evidence = Evidence { case: "one", deployment: "cnpg", claims: &["a".to_owned()], outcome: &outcome, deviation: None };
        ledger.add(&evidence).expect("known claim");
    }
    let reason = ledger.finish().remove(0).reason;
    assert_eq!(reason.as_deref(), Some("unexplained: refused: expected alert: unknown-ca, observed first"));
}

#[test]
fn a_deviation_about_another_claim_says_neither_yes_nor_no() {
    let both = ["a".to_owned(), "b".to_owned()];
    let only_a = ["a".to_owned()];
    let deviation = Some(Refuting { claims: &only_a, observed: "let in" });
    let mut ledger = Ledger::new(&[claim("a", &[Subject::Postgres]), claim("b", &[Subject::Postgres])], "local", &REAL);
    let outcome = deviates();
    let evidence = Evidence { case: "one", deployment: "cnpg", claims: &both, outcome: &outcome, deviation };
    ledger.add(&evidence).expect("known claims");
    let records = ledger.finish();
    assert_eq!(records[0].verdict, Verdict::Refuted);
    assert_eq!(records[1].verdict, Verdict::NotExercised, "b has no other evidence");
    assert_eq!(records[1].reason.as_deref(), Some("its cases show the deviation `cnpg.plaintext`, which is about other claims"));
    ledger.add(&Evidence { case: "two", outcome: &Outcome::Pass, deviation: None, ..evidence }).expect("known claims");
    let records = ledger.finish();
    assert_eq!((records[0].verdict, records[1].verdict), (Verdict::Refuted, Verdict::Confirmed));
}

#[test]
fn a_deviation_refutes_a_claim_that_the_case_does_not_name() {
    let mut ledger = Ledger::new(&[claim("a", &[Subject::Postgres]), claim("b", &[Subject::Postgres])], "local", &REAL);
    let refuted = ["b".to_owned()];
    let deviation = Some(Refuting { claims: &refuted, observed: "let in" });
    ledger
        .add(&Evidence { case: "one", deployment: "cnpg", claims: &["a".to_owned()], outcome: &deviates(), deviation })
        .expect("known claims");
    let records = ledger.finish();
    assert_eq!((records[0].verdict, records[1].verdict), (Verdict::NotExercised, Verdict::Refuted));
    assert_eq!(records[1].cases, ["one"]);
}

#[test]
fn the_reason_is_the_same_in_whatever_order_cases_end() {
    let outcomes = [("case-2", failed("second")), ("case-1", failed("first")), ("case-3", failed("third"))];
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut ledger = Ledger::new(&[claim("a", &[Subject::Postgres])], "local", &REAL);
        for index in order {
            let (case, outcome) = &outcomes[index];
            let evidence = Evidence { case, deployment: "cnpg", claims: &["a".to_owned()], outcome, deviation: None };
            ledger.add(&evidence).expect("known claim");
        }
        let record = ledger.finish().remove(0);
        assert_eq!(record.reason.as_deref(), Some("unexplained: refused: expected alert: unknown-ca, observed first"));
        assert_eq!(record.cases, ["case-1", "case-2", "case-3"]);
    }
}

#[test]
fn a_claim_that_awaits_something_says_what() {
    let awaits = Awaits { needs: "kind with two sites".to_owned(), reason: "routing is the gateway's".to_owned() };
    let waiting = |subject| Claim { awaits: Some(awaits.clone()), ..claim("a", &[subject]) };
    let record = Ledger::new(&[waiting(Subject::Config)], "local", &REAL).finish().remove(0);
    assert_eq!(record.reason.as_deref(), Some("needs kind with two sites: routing is the gateway's"));
    let record = Ledger::new(&[waiting(Subject::Nautobot)], "local", &REAL).finish().remove(0);
    assert_eq!(record.reason.as_deref(), Some("Nautobot does not run in the local environment: needs kind with two sites"));
}

#[test]
fn a_claim_about_what_is_not_installed_says_where_to_look() {
    let record = Ledger::new(&[claim("a", &[Subject::Gateway])], "local", &REAL).finish().remove(0);
    assert_eq!(
        record.reason.as_deref(),
        Some("a TLS-passthrough gateway was not found here: `mtls-conformance doctor` says what brings it")
    );
}

#[test]
fn many_observed_texts_are_listed_up_to_a_limit() {
    let mut ledger = Ledger::new(&[claim("a", &[Subject::Postgres])], "local", &REAL);
    let a = ["a".to_owned()];
    for observed in ["e", "d", "c", "b", "a"] {
        let deviation = Some(Refuting { claims: &a, observed });
        let outcome = deviates();
        ledger.add(&Evidence { case: observed, deployment: "cnpg", claims: &a, outcome: &outcome, deviation }).expect("known claim");
    }
    assert_eq!(ledger.finish()[0].reason.as_deref(), Some("a; b; c; and 2 more"));
}

#[test]
fn an_unknown_claim_is_an_error_and_the_others_are_credited() {
    let mut ledger = Ledger::new(&[claim("a", &[Subject::Postgres])], "local", &REAL);
    let claims = ["z".to_owned(), "a".to_owned()];
    let evidence = Evidence { case: "one", deployment: "cnpg", claims: &claims, outcome: &Outcome::Pass, deviation: None };
    assert_eq!(ledger.add(&evidence), Err(LedgerError::UnknownClaim { case: "one".to_owned(), claim: "z".to_owned() }));
    assert_eq!(ledger.finish()[0].verdict, Verdict::Confirmed);
}

#[test]
fn counts_name_every_verdict() {
    let record = verdict_of(&[Subject::Postgres], &[("documented", Outcome::Pass)], "a");
    let counts: Vec<(String, usize)> = count(&[record]).into_iter().collect();
    assert_eq!(counts, [("confirmed".to_owned(), 1), ("not-exercised".to_owned(), 0), ("refuted".to_owned(), 0)]);
}
