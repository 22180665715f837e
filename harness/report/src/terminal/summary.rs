//! The end of a run: counts, the ledger in short, tables, speed, and the final line.

use std::collections::BTreeMap;

use super::super::run_result::RunResult;
use super::super::selection::{self, of_selection};
use super::super::tables::{self, Rows};
use super::super::tally::Tally;
use super::super::text::{clip, fill, plural};
use super::style::{Emphasis, Style};
use model::claim::Verdict;
use model::outcome::OutcomeKind;
use model::report::{ClaimRecord, Summary};

/// Rows of one list or table; the json report has all.
const ROWS: usize = 24;
/// Lines that a list of ids may take.
const ID_LINES: usize = 6;
/// Lines of one text.
const TEXT_LINES: usize = 3;
/// Ids of equal failures.
const GROUP_IDS: usize = 4;
/// Columns before what is said of a failure.
const FAILURE_INDENT: usize = 19;
/// Columns before a text that has a label.
const INDENT: usize = 17;

pub(super) fn text(summary: &Summary, tally: &Tally, style: Style) -> String {
    let mut page = Page { style, lines: Vec::new() };
    page.outcomes(summary, tally);
    page.counts("Skipped", &Tally::ranked(&tally.skipped));
    page.counts("Known deviations seen", &Tally::ranked(&tally.deviations));
    page.claims(&summary.claims);
    page.latency(summary);
    page.outages(summary);
    page.divergence(summary);
    page.slow(&summary.totals.slow_cases);
    page.unsound(tally);
    page.counts("Evidence that is missing or not complete", &Tally::ranked(&tally.unkept));
    page.problems("Warnings", &summary.warnings);
    page.problems("Problems of the run", &summary.problems);
    page.problems("Left behind by the run", &summary.left_behind);
    page.speed(summary, tally);
    page.result(summary, tally);
    page.lines.join("\n")
}

struct Page {
    style: Style,
    lines: Vec<String>,
}

impl Page {
    fn head(&mut self, title: &str) {
        self.lines.push(String::new());
        self.lines.push(self.style.paint(Emphasis::Head, title));
    }

    fn line(&mut self, text: impl Into<String>) {
        self.lines.push(text.into());
    }

    /// Columns left after an indent.
    fn room(&self, indent: usize) -> usize {
        usize::from(self.style.width).saturating_sub(indent)
    }

    fn outcomes(&mut self, summary: &Summary, tally: &Tally) {
        self.head("Outcomes");
        for kind in OutcomeKind::ALL {
            let count = summary.totals.outcomes.get(&kind).copied().unwrap_or(0);
            if count > 0 {
                let emphasis = match kind {
                    OutcomeKind::Pass => Emphasis::Good,
                    OutcomeKind::Deviates | OutcomeKind::Skipped => Emphasis::Odd,
                    OutcomeKind::Fail | OutcomeKind::UnexpectedPass | OutcomeKind::Errored | OutcomeKind::TimedOut => Emphasis::Bad,
                };
                self.line(format!("  {count:>7}  {}", self.style.paint(emphasis, &tally.outcome_name(kind))));
            }
        }
    }

    fn counts(&mut self, title: &str, counts: &[(&str, usize)]) {
        if counts.is_empty() {
            return;
        }
        self.head(title);
        for (name, count) in counts.iter().take(ROWS) {
            self.line(format!("  {count:>7}  {}", clip(name, self.room(11))));
        }
        self.omission(counts.len());
    }

    fn omission(&mut self, all: usize) {
        if all > ROWS {
            self.line(format!("           ... and {} more in the json report", all - ROWS));
        }
    }

    fn claims(&mut self, claims: &[ClaimRecord]) {
        if claims.is_empty() {
            return;
        }
        let (shown, others) = of_selection(claims);
        let of = |verdict: Verdict| shown.iter().copied().filter(move |claim| claim.verdict == verdict);
        let count = |verdict: Verdict| of(verdict).count();
        self.head(&format!(
            "{}: {} confirmed, {} refuted, {} not exercised",
            if others > 0 { "Claims of the selected cases" } else { "Claims" },
            count(Verdict::Confirmed),
            count(Verdict::Refuted),
            count(Verdict::NotExercised)
        ));
        let confirmed: Vec<&str> = of(Verdict::Confirmed).map(|claim| claim.id.as_str()).collect();
        self.labelled(Emphasis::Good, "confirmed", &confirmed, ", ", ID_LINES);
        for claim in of(Verdict::Refuted).take(ROWS) {
            let mut id = claim.id.clone();
            let deployments: Vec<&str> = claim
                .by_deployment
                .iter()
                .filter(|(_, verdict)| **verdict == Verdict::Refuted)
                .map(|(deployment, _)| deployment.as_str())
                .collect();
            if !deployments.is_empty() && deployments.len() < claim.by_deployment.len() {
                id = format!("{id} ({} only)", deployments.join(", "));
            }
            self.labelled(Emphasis::Bad, "refuted", &[&id], " ", 1);
            self.sentence(Emphasis::Bad, "", claim.reason.as_deref().unwrap_or("no reason is recorded"));
        }
        self.omission(count(Verdict::Refuted));
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for claim in of(Verdict::NotExercised) {
            reasons.entry(claim.reason.as_deref().unwrap_or("no reason is recorded")).or_default().push(&claim.id);
        }
        let mut reasons: Vec<(&str, Vec<&str>)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, ids)| std::cmp::Reverse(ids.len()));
        for (reason, ids) in reasons.iter().take(ROWS) {
            self.sentence(Emphasis::Odd, "not exercised", &format!("{}: {reason}", ids.len()));
            self.labelled(Emphasis::Odd, "", ids, ", ", 2);
        }
        self.omission(reasons.len());
        if let Some(others) = selection::others(others) {
            self.line(format!("  {others}"));
        }
    }

    /// A text of a few lines at most beside a label.
    fn sentence(&mut self, emphasis: Emphasis, label: &str, text: &str) {
        let text = clip(text, self.room(INDENT) * TEXT_LINES);
        self.labelled(emphasis, label, &text.split_whitespace().collect::<Vec<_>>(), " ", usize::MAX);
    }

    /// Words filled into lines beside a label.
    fn labelled(&mut self, emphasis: Emphasis, label: &str, words: &[&str], separator: &str, limit: usize) {
        for (index, line) in fill(words, separator, "", self.room(INDENT), limit).into_iter().enumerate() {
            let label = format!("{:<13}", if index == 0 { label } else { "" });
            let label = if label.trim().is_empty() { label } else { self.style.paint(emphasis, &label) };
            self.line(format!("  {label}  {line}"));
        }
    }

    fn table(&mut self, title: &str, rows: &Rows) {
        if rows.rows.is_empty() {
            return;
        }
        self.head(title);
        self.line(rows.render(self.style.width));
        self.lines.extend(rows.omission().map(|omission| format!("  {omission}")));
    }

    fn latency(&mut self, summary: &Summary) {
        self.table("Latency, first packet to ready session", &tables::latency(&summary.latency, ROWS));
    }

    fn outages(&mut self, summary: &Summary) {
        self.table("Timelines: clients without service", &tables::outages(&summary.outages, ROWS));
    }

    fn divergence(&mut self, summary: &Summary) {
        let (divergent, compared) = (summary.divergence.len(), summary.totals.compared_situations);
        if compared == 0 {
            return;
        }
        let title = format!("Drivers against libpq: {divergent} of {} differ", plural(compared, "situation"));
        if divergent == 0 {
            self.head(&title);
        }
        self.table(&title, &tables::divergence(&summary.divergence, ROWS));
    }

    fn slow(&mut self, cases: &[String]) {
        if !cases.is_empty() {
            self.head(&format!("Timelines: {}", plural(cases.len(), "case")));
            let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
            self.lines.extend(fill(&cases, ", ", "  ", usize::from(self.style.width), ID_LINES));
        }
    }

    fn unsound(&mut self, tally: &Tally) {
        let all = tally.failing + tally.erroring;
        if all == 0 {
            return;
        }
        self.head("Failed and errored cases");
        let mut told = 0;
        for group in tally.groups.iter().take(ROWS) {
            told += group.cases;
            let outcome = self.style.paint(Emphasis::Bad, &format!("{:<15}", group.outcome));
            if let ([id], 1) = (group.ids.as_slice(), group.cases) {
                self.line(format!("  {outcome}  {id}"));
                continue;
            }
            let headline = clip(&format!("{} alike: {}", plural(group.cases, "case"), group.headline), self.room(FAILURE_INDENT));
            self.line(format!("  {outcome}  {headline}"));
            self.lines.extend(group.ids.iter().take(GROUP_IDS).map(|id| format!("{:FAILURE_INDENT$}{id}", "")));
            if group.cases > GROUP_IDS {
                self.line(format!("{:FAILURE_INDENT$}... and {} more in the json report", "", group.cases - GROUP_IDS));
            }
        }
        if all > told {
            self.line(format!("           ... and {} more in the json report", all - told));
        }
    }

    fn problems(&mut self, title: &str, problems: &[String]) {
        if problems.is_empty() {
            return;
        }
        self.head(title);
        for problem in problems.iter().take(ROWS) {
            let problem = clip(problem, self.room(2) * TEXT_LINES);
            let words: Vec<&str> = problem.split_whitespace().collect();
            self.lines.extend(fill(&words, " ", "  ", usize::from(self.style.width), usize::MAX));
        }
        self.omission(problems.len());
    }

    fn speed(&mut self, summary: &Summary, tally: &Tally) {
        let totals = &summary.totals;
        let skipped: usize = tally.skipped.values().sum();
        let ran = tally.cases.saturating_sub(skipped);
        // Both rates are over the same time, so that their quotient is the connections of a case.
        let rate = |count: f64| if totals.wall_seconds > 0.0 { format!("{:.0}", count / totals.wall_seconds) } else { "-".to_owned() };
        self.head("Speed");
        self.line(format!(
            "  {:.1} s for the whole run: {} cases/s, {} connections/s, {} MiB peak memory",
            totals.wall_seconds,
            rate(ran as f64),
            rate(totals.connections as f64),
            totals.peak_memory_bytes.div_ceil(1024 * 1024)
        ));
        if totals.timeline_seconds > 0.0 {
            self.line(format!("  {:.1} s of it for timelines, which go at their clients' pace", totals.timeline_seconds));
        }
    }

    fn result(&mut self, summary: &Summary, tally: &Tally) {
        let run_result = RunResult::of(summary, tally.interrupted);
        let emphasis = match run_result {
            RunResult::Conformant => Emphasis::Good,
            RunResult::NotConformant | RunResult::Errored => Emphasis::Bad,
            RunResult::NothingRan | RunResult::Interrupted => Emphasis::Odd,
        };
        self.line(String::new());
        self.line(self.style.paint(emphasis, &run_result.line(summary)));
    }
}
