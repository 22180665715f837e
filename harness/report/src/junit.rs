//! JUnit XML in nextest's dialect: a suite a scenario, a test a case; claims, deployment and the repeat command as properties.

use std::io::{self, Write};
use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::failure;
use super::spool::{Entry, SpooledCases};
use model::outcome::{Outcome, OutcomeKind};
use model::report::{CaseRecord, Summary};

/// The name of the whole, as nextest gives its profile's.
const NAME: &str = "mtls-conformance";

/// Writes the report, case by case: the elements come from quick-junit, which itself would hold all of them.
///
/// # Errors
///
/// Where `out` can't be written or a case can't be read back.
pub fn write(out: &mut dyn Write, summary: &Summary, cases: SpooledCases<'_>) -> io::Result<()> {
    let mut whole = Report::new(NAME);
    let counts = Counts::of(cases.entries());
    (whole.tests, whole.skipped, whole.failures, whole.errors) = (counts.tests, counts.skipped, counts.failures, counts.errors);
    whole.timestamp = summary.started_at.parse().ok();
    whole.time = Duration::try_from_secs_f64(summary.totals.wall_seconds).ok();
    let whole = whole.to_string().map_err(to_io)?;
    // A report without suites is one start tag and one end tag.
    let (head, tail) = whole.rsplit_once("</testsuites>").ok_or_else(|| shape("testsuites"))?;
    out.write_all(head.trim_end().as_bytes())?;
    for (scenario, entries) in cases.by_scenario() {
        write_suite(out, scenario, &entries, cases)?;
    }
    write!(out, "\n</testsuites>{tail}")
}

struct Counts {
    tests: usize,
    skipped: usize,
    failures: usize,
    errors: usize,
    milliseconds: f64,
}

impl Counts {
    fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut counts = Self { tests: 0, skipped: 0, failures: 0, errors: 0, milliseconds: 0.0 };
        for entry in entries {
            counts.tests += 1;
            counts.skipped += usize::from(entry.kind == OutcomeKind::Skipped);
            counts.failures += usize::from(entry.kind.is_failure());
            counts.errors += usize::from(entry.kind.is_error());
            counts.milliseconds += entry.duration_ms;
        }
        counts
    }
}

fn write_suite(out: &mut dyn Write, scenario: &str, entries: &[&Entry], cases: SpooledCases<'_>) -> io::Result<()> {
    let counts = Counts::of(entries.iter().copied());
    for (index, entry) in entries.iter().enumerate() {
        let mut suite = TestSuite::new(scenario);
        suite.add_test_case(test_case(&cases.read(entry)?));
        (suite.tests, suite.skipped, suite.failures, suite.errors) = (counts.tests, counts.skipped, counts.failures, counts.errors);
        suite.time = Some(duration(counts.milliseconds));
        let mut report = Report::unnamed();
        report.test_suites.push(suite);
        let text = report.to_string().map_err(to_io)?;
        let suite = text.find("<testsuite ").ok_or_else(|| shape("testsuite"))?;
        let case = text.find("<testcase ").ok_or_else(|| shape("testcase"))?;
        let end = text.rfind("</testsuite>").ok_or_else(|| shape("testsuite"))?;
        if index == 0 {
            write!(out, "\n    {}", text[suite..case].trim_end())?;
        }
        write!(out, "\n        {}", text[case..end].trim_end())?;
    }
    write!(out, "\n    </testsuite>")
}

fn test_case(case: &CaseRecord) -> TestCase {
    let status = match &case.outcome {
        Outcome::Pass | Outcome::Deviates { .. } => TestCaseStatus::success(),
        Outcome::Skipped(reason) => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(reason.to_string());
            status
        }
        Outcome::Fail(mismatches) => {
            let first = mismatches
                .first()
                .map(|first| format!("{}: expected {}, observed {}", first.what, first.expected, first.observed))
                .unwrap_or_default();
            unsound(NonSuccessKind::Failure, case, first)
        }
        Outcome::UnexpectedPass { deviation } => {
            unsound(NonSuccessKind::Failure, case, format!("passed, though the known deviation `{deviation}` was expected"))
        }
        Outcome::Errored { text, .. } | Outcome::TimedOut(text) => unsound(NonSuccessKind::Error, case, text.clone()),
    };
    let mut test = TestCase::new(case.id.as_str(), status);
    test.set_classname(case.scenario.as_str()).set_time(duration(case.duration_ms));
    test.add_property(Property::new("claims", case.claims.join(" ")));
    test.add_property(Property::new("deployment", case.deployment.as_str()));
    test.add_property(Property::new("repro", case.repro.as_str()));
    if let Outcome::Deviates { deviation } | Outcome::UnexpectedPass { deviation } = &case.outcome {
        test.add_property(Property::new("deviation", deviation.as_str()));
    }
    if let Some(evidence) = &case.evidence {
        test.add_property(Property::new("evidence", evidence.as_str()));
    }
    if let Some(error) = &case.evidence_error {
        test.add_property(Property::new("evidence-error", error.as_str()));
    }
    test
}

fn unsound(kind: NonSuccessKind, case: &CaseRecord, message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(kind);
    let name = case.outcome.kind().name();
    let outcome_type = match &case.outcome {
        // Dotted as names of exceptions are, which CI servers group by.
        Outcome::Errored { kind, .. } => format!("{name}.{kind}"),
        _ => name.to_owned(),
    };
    status.set_message(message).set_type(outcome_type).set_description(failure::block(case));
    status
}

fn duration(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default()
}

fn to_io(error: SerializeError) -> io::Error {
    io::Error::other(error)
}

/// quick-junit wrote something else than this module cuts apart.
fn shape(element: &str) -> io::Error {
    io::Error::other(format!("the junit report has no <{element}> where it is expected: quick-junit has changed its layout"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use model::outcome::ErrorKind;

    fn written(cases: &[CaseRecord]) -> String {
        fixture::written(cases, write)
    }

    #[test]
    fn every_outcome_has_its_element() {
        insta::assert_snapshot!(written(&fixture::cases()));
    }

    #[test]
    fn the_pieces_make_what_quick_junit_makes_of_the_whole() {
        let mut cases = fixture::cases();
        cases.sort_by(|one, other| one.id.cmp(&other.id));
        let mut whole = Report::new(NAME);
        whole.timestamp = fixture::STARTED.parse().ok();
        whole.time = Some(Duration::from_secs(4));
        for scenario in ["openssl/inspect", "postgres/sslmode", "redis/tls", "renewal/trust-first"] {
            let mut suite = TestSuite::new(scenario);
            let own: Vec<&CaseRecord> = cases.iter().filter(|case| case.scenario == scenario).collect();
            suite.time = Some(duration(own.iter().map(|case| case.duration_ms).sum()));
            suite.add_test_cases(own.into_iter().map(test_case));
            whole.add_test_suite(suite);
        }
        assert_eq!(written(&fixture::cases()), whole.to_string().expect("serialises"));
    }

    #[test]
    fn texts_that_xml_can_not_hold_are_escaped_or_left_out() {
        let mut case = fixture::cases().remove(0);
        case.outcome = Outcome::Errored { kind: ErrorKind::Lost, text: "</failure> & <testcase name='x'> \u{1} ]]>".to_owned() };
        let text = written(&[case]);
        assert!(text.contains("&lt;/failure&gt; &amp; &lt;testcase"), "{text}");
        assert!(!text.contains('\u{1}'));
    }

    #[test]
    fn a_run_without_cases_is_a_report_without_suites() {
        let text = written(&[]);
        assert!(text.contains("tests=\"0\"") && text.trim_end().ends_with("</testsuites>"), "{text}");
    }
}
