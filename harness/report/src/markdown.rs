//! Markdown for a GitHub step summary, which takes 1 MiB: every section has a limit, and says what it left out.

use std::io::{self, Write};

use super::failure;
use super::run_result::RunResult;
use super::selection::{self, of_selection};
use super::spool::SpooledCases;
use super::tables::{self, Rows};
use super::tally::Tally;
use super::text::{clip, plural};
use check::ledger::name;
use model::claim::Verdict;
use model::outcome::OutcomeKind;
use model::report::{ClaimRecord, Summary};

/// GitHub refuses step summaries above this number of bytes.
pub const LIMIT: usize = 1024 * 1024;

// The sections' limits in bytes: together, with a row each beyond them, below `LIMIT`.
const UNSOUND: usize = 320 * 1024;
const CLAIMS: usize = 100 * 1024;
const TABLE: usize = 60 * 1024;
const SMALL: usize = 30 * 1024;

/// Characters of one text.
const TEXT: usize = 400;

/// Writes the report.
///
/// # Errors
///
/// Where `out` can't be written or a case can't be read back.
pub fn write(out: &mut dyn Write, summary: &Summary, cases: SpooledCases<'_>, tally: &Tally) -> io::Result<()> {
    let run_result = RunResult::of(summary, tally.interrupted);
    writeln!(out, "## mTLS conformance: {}\n", cell(&run_result.line(summary)))?;
    writeln!(out, "{}\n", speed(summary))?;
    writeln!(out, "| outcome | cases |\n|---|---:|")?;
    for kind in OutcomeKind::ALL {
        writeln!(out, "| {} | {} |", tally.outcome_name(kind), summary.totals.outcomes.get(&kind).copied().unwrap_or(0))?;
    }
    for (title, texts) in
        [("Warnings", &summary.warnings), ("Problems of the run", &summary.problems), ("Left behind by the run", &summary.left_behind)]
    {
        let rows: Vec<String> = texts.iter().map(|text| format!("- {}\n", cell(text))).collect();
        Section::of(title, SMALL, &rows).write(out)?;
    }
    write_unsound(out, cases)?;
    write_counts(out, "Evidence that is missing or not complete", "reason", &Tally::ranked(&tally.unkept))?;
    write_claims(out, &summary.claims)?;
    write_counts(out, "Known deviations seen", "deviation", &Tally::ranked(&tally.deviations))?;
    write_table(out, &divergence_title(summary), &tables::divergence(&summary.divergence, usize::MAX))?;
    write_table(out, "Timelines: clients without service", &tables::outages(&summary.outages, usize::MAX))?;
    write_table(out, "Latency of connects", &tables::latency(&summary.latency, usize::MAX))?;
    write_counts(out, "Skipped", "reason", &Tally::ranked(&tally.skipped))?;
    let slow: Vec<String> = summary.totals.slow_cases.iter().map(|id| format!("- `{}`\n", code(id))).collect();
    Section::of("Timelines", SMALL, &slow).write(out)
}

/// A titled list of rows under a limit in bytes.
struct Section {
    title: String,
    head: String,
    body: String,
    limit: usize,
    omitted: usize,
}

impl Section {
    fn new(title: impl Into<String>, limit: usize) -> Self {
        Self { title: title.into(), head: String::new(), body: String::new(), limit, omitted: 0 }
    }

    fn of(title: &str, limit: usize, rows: &[String]) -> Self {
        let mut section = Self::new(title, limit);
        rows.iter().for_each(|row| section.push(row));
        section
    }

    fn full(&self) -> bool {
        self.body.len() >= self.limit
    }

    fn push(&mut self, row: &str) {
        if self.omitted == 0 && self.body.len() + row.len() <= self.limit {
            self.body.push_str(row);
        } else {
            self.omitted += 1;
        }
    }

    fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.body.is_empty() && self.omitted == 0 {
            return Ok(());
        }
        writeln!(out, "\n### {}\n\n{}{}", self.title, self.head, self.body.trim_end())?;
        if self.omitted > 0 {
            writeln!(out, "\n... and {} more in the json report", self.omitted)?;
        }
        Ok(())
    }
}

fn speed(summary: &Summary) -> String {
    let totals = &summary.totals;
    let environment = &summary.environment;
    let users = environment.users.as_ref().map(|users| format!(" The {}.", cell(&users.line()))).unwrap_or_default();
    format!(
        "{} environment, {}, {}: {} and {} in {:.1} s.{users}",
        cell(&environment.name),
        cell(&environment.platform),
        plural(environment.cpus, "processor"),
        plural(totals.cases, "case"),
        plural(usize::try_from(totals.connections).unwrap_or(usize::MAX), "connection"),
        totals.wall_seconds
    )
}

fn write_unsound(out: &mut dyn Write, cases: SpooledCases<'_>) -> io::Result<()> {
    let mut section = Section::new("Failed and errored cases", UNSOUND);
    // Failures say more than errors: they come first.
    for wanted in [OutcomeKind::is_failure as fn(OutcomeKind) -> bool, OutcomeKind::is_error] {
        for entry in cases.entries().iter().filter(|entry| wanted(entry.kind)) {
            if section.omitted > 0 || section.full() {
                section.omitted += 1;
                continue;
            }
            let block = failure::block(&cases.read(entry)?);
            let fence = fence(&block);
            section.push(&format!("{fence}text\n{block}{fence}\n\n"));
        }
    }
    section.write(out)
}

fn write_claims(out: &mut dyn Write, claims: &[ClaimRecord]) -> io::Result<()> {
    let (shown, others) = of_selection(claims);
    let of = |verdict: Verdict| shown.iter().copied().filter(move |claim| claim.verdict == verdict);
    for verdict in [Verdict::Refuted, Verdict::NotExercised, Verdict::Confirmed] {
        let title = format!("Claims {}: {}", name(verdict).replace('-', " "), of(verdict).count());
        let mut section = Section::new(title, CLAIMS);
        section.head = "| claim | the document says | reason |\n|---|---|---|\n".to_owned();
        for claim in of(verdict) {
            let reason = claim.reason.as_deref().unwrap_or("-");
            section.push(&format!("| `{}` | {} | {} |\n", code(&claim.id), cell(&claim.statement), cell(reason)));
        }
        section.write(out)?;
    }
    if let Some(others) = selection::others(others) {
        writeln!(out, "\n{others}")?;
    }
    Ok(())
}

fn write_counts(out: &mut dyn Write, title: &str, head: &str, counts: &[(&str, usize)]) -> io::Result<()> {
    let mut section = Section::new(title, SMALL);
    section.head = format!("| {head} | cases |\n|---|---:|\n");
    counts.iter().for_each(|(name, count)| section.push(&format!("| {} | {count} |\n", cell(name))));
    section.write(out)
}

fn write_table(out: &mut dyn Write, title: &str, rows: &Rows) -> io::Result<()> {
    let mut section = Section::new(title, TABLE);
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    section.head = line(rows.head.iter().map(|title| (*title).to_owned()).collect());
    let rule = |index: usize| if index < rows.numbers_from { "---" } else { "---:" };
    section.head.push_str(&line((0..rows.head.len()).map(|index| rule(index).to_owned()).collect()));
    rows.rows.iter().for_each(|row| section.push(&line(row.iter().map(|text| cell(text)).collect())));
    section.write(out)
}

fn divergence_title(summary: &Summary) -> String {
    let (divergent, compared) = (summary.divergence.len(), summary.totals.compared_situations);
    format!("Drivers that differ from libpq: {divergent} of {}", plural(compared, "situation"))
}

/// A foreign text as one line that Markdown and HTML leave alone.
fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in clip(text, TEXT).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

/// A text inside backticks, also in a table.
fn code(text: &str) -> String {
    clip(text, TEXT).replace('`', "'").replace('|', "\\|")
}

/// A fence longer than any run of backticks in the text.
fn fence(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use crate::spool::Spool;
    use model::outcome::{ErrorKind, Outcome};
    use os::redact::Redactor;

    fn written(summary: &Summary, cases: &[model::report::CaseRecord]) -> String {
        let mut spool = Spool::create(Redactor::default()).expect("makes a file");
        let mut tally = Tally::default();
        for case in cases {
            spool.push(case).expect("spools");
            tally.add(case);
        }
        let mut out = Vec::new();
        write(&mut out, summary, spool.cases().expect("flushes"), &tally).expect("writes");
        String::from_utf8(out).expect("is text")
    }

    #[test]
    fn after_a_run_of_some_cases_other_claims_are_a_number() {
        let mut summary = fixture::summary();
        let whole = written(&summary, &fixture::cases());
        let other = summary.claims.iter_mut().find(|claim| claim.verdict == Verdict::NotExercised).expect("one");
        other.cases.clear();
        other.reason = Some(check::ledger::NOT_SELECTED.to_owned());
        let id = format!("`{}`", other.id);
        let part = written(&summary, &fixture::cases());
        assert!(whole.contains(&id) && !whole.contains("other claim"), "{whole}");
        assert!(!part.contains(&id), "{part}");
        assert!(part.contains("\n1 other claim: no selected case bears on it (the json report has all)\n"), "{part}");
    }

    #[test]
    fn a_run_with_every_outcome_reads_well() {
        insta::assert_snapshot!(written(&fixture::summary(), &fixture::cases()));
    }

    #[test]
    fn a_huge_run_stays_below_the_limit_and_says_what_was_left_out() {
        let mut summary = fixture::summary();
        let long = "|<x>`".repeat(200);
        let claim = ClaimRecord { statement: long.clone(), reason: Some(long.clone()), ..summary.claims[0].clone() };
        summary.claims = [Verdict::Confirmed, Verdict::Refuted, Verdict::NotExercised]
            .into_iter()
            .flat_map(|verdict| vec![ClaimRecord { verdict, ..claim.clone() }; 2000])
            .collect();
        summary.problems = vec![long.clone(); 2000];
        summary.left_behind = vec![long.clone(); 2000];
        summary.warnings = vec![long.clone(); 2000];
        summary.totals.slow_cases = vec![long.clone(); 2000];
        summary.latency = vec![summary.latency[0].clone(); 5000];
        summary.divergence = (0..2000)
            .map(|index| {
                let mut record = summary.divergence[0].clone();
                record.mode = Some(format!("{index}"));
                record
            })
            .collect();
        let mut case = fixture::cases().remove(0);
        let cases: Vec<_> = (0..3000)
            .map(|index| {
                case.id = format!("{index}");
                case.outcome = match index % 3 {
                    0 => Outcome::Errored { kind: ErrorKind::Start, text: format!("{long}\n").repeat(10) },
                    1 => Outcome::Skipped(model::outcome::SkipReason::ServerMissing(format!("{index}{long}"))),
                    _ => Outcome::Deviates { deviation: format!("{index}{long}") },
                };
                case.clone()
            })
            .collect();
        let text = written(&summary, &cases);
        assert!(text.len() < LIMIT, "{} bytes", text.len());
        assert_eq!(text.matches("more in the json report").count(), 12, "each section but the first says what it left out");
    }

    #[test]
    fn foreign_text_does_not_become_markup() {
        assert_eq!(cell("a|b <img> `x` *y*\nz"), "a\\|b &lt;img&gt; \\`x\\` \\*y\\* z");
        assert_eq!(fence("no ticks"), "```");
        assert_eq!(fence("```` four"), "`````");
        assert_eq!(code("a`b|c"), "a'b\\|c");
    }
}
