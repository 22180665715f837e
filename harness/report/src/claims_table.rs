//! The table that `mtls-conformance claims` prints.

use std::io::{self, Write};

use super::tables::Rows;
use super::text::plural;
use check::ledger::{name, subject_name};
use model::claim::{Claim, Verdict};
use model::report::ClaimRecord;

/// Prints claims with the verdicts of a run, in their order, and a line that counts them.
///
/// # Errors
///
/// Where `out` can't be written.
pub fn write_verdicts(out: &mut dyn Write, claims: &[ClaimRecord], width: u16) -> io::Result<()> {
    let row = |claim: &ClaimRecord| {
        let mut why = claim.reason.clone().unwrap_or_else(|| claim.statement.clone());
        let split = claim.by_deployment.values().any(|verdict| *verdict != claim.verdict);
        if split {
            let verdicts: Vec<String> =
                claim.by_deployment.iter().map(|(deployment, verdict)| format!("{deployment}: {}", name(*verdict))).collect();
            why = format!("{why} ({})", verdicts.join(", "));
        }
        if claim.verdict != Verdict::NotExercised && !claim.subjects_not_real.is_empty() {
            let subjects: Vec<&str> = claim.subjects_not_real.iter().map(|subject| subject_name(*subject)).collect();
            why = format!("{why} (says nothing of {})", subjects.join(", "));
        }
        vec![name(claim.verdict).to_owned(), claim.id.clone(), why, claim.cases.len().to_string()]
    };
    let rows = Rows {
        head: vec!["verdict", "claim", "statement, or what was found", "cases"],
        rows: claims.iter().map(row).collect(),
        numbers_from: 3,
        omitted: 0,
    };
    writeln!(out, "{}", rows.render(width))?;
    let count = |verdict: Verdict| claims.iter().filter(|claim| claim.verdict == verdict).count();
    writeln!(
        out,
        "{}: {} confirmed, {} refuted, {} not exercised",
        plural(claims.len(), "claim"),
        count(Verdict::Confirmed),
        count(Verdict::Refuted),
        count(Verdict::NotExercised)
    )
}

/// Prints claims without a run: what they say, what they are about, and what they wait for.
///
/// # Errors
///
/// Where `out` can't be written.
pub fn write_claims(out: &mut dyn Write, claims: &[Claim], width: u16) -> io::Result<()> {
    let row = |claim: &Claim| {
        let subjects: Vec<&str> = claim.subject.iter().map(|subject| subject_name(*subject)).collect();
        let awaits = claim.awaits.as_ref().map(|awaits| format!("{}: {}", awaits.needs, awaits.reason));
        vec![claim.id.clone(), claim.statement.clone(), subjects.join(", "), awaits.unwrap_or_else(|| "-".to_owned())]
    };
    let head = vec!["claim", "statement", "about", "waits for"];
    let rows = Rows { head, rows: claims.iter().map(row).collect(), numbers_from: 4, omitted: 0 };
    writeln!(out, "{}", rows.render(width))?;
    writeln!(out, "{}", plural(claims.len(), "claim"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use model::claim::{Awaits, Subject};

    fn text(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).expect("writes to memory");
        String::from_utf8(out).expect("is text")
    }

    #[test]
    fn verdicts_are_a_table() {
        insta::assert_snapshot!(text(|out| write_verdicts(out, &fixture::summary().claims, 110)));
    }

    #[test]
    fn claims_without_a_run_are_a_table() {
        let claim = Claim {
            id: "gateway.sni".to_owned(),
            statement: "the gateway routes by SNI and leaves TLS alone".to_owned(),
            document: "guide.md".to_owned(),
            section: "Gateway".to_owned(),
            subject: vec![Subject::Gateway, Subject::Postgres],
            awaits: Some(Awaits { needs: "kind".to_owned(), reason: "routing is the gateway's".to_owned() }),
        };
        let plain = Claim { id: "postgres.cn-is-user".to_owned(), awaits: None, subject: vec![Subject::Postgres], ..claim.clone() };
        insta::assert_snapshot!(text(|out| write_claims(out, &[claim, plain], 100)));
    }
}
