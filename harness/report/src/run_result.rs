//! What a whole run comes to, in one line.

use super::text::plural;
use model::outcome::OutcomeKind;
use model::report::Summary;

/// The result of a run; the first that holds, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunResult {
    /// Somebody interrupted it, so that cases were skipped.
    Interrupted,
    /// A case failed or passed unexpectedly, or the run has problems such as a stale deviation.
    NotConformant,
    /// The harness or its environment failed in a case, or left something behind.
    Errored,
    /// Every case was skipped.
    NothingRan,
    /// All that ran is as documented, known deviations included.
    Conformant,
}

impl RunResult {
    /// The standing of a run; `interrupted` since the summary does not hold it.
    #[must_use]
    pub fn of(summary: &Summary, interrupted: bool) -> Self {
        let any = |holds: fn(OutcomeKind) -> bool| summary.totals.outcomes.iter().any(|(kind, count)| *count > 0 && holds(*kind));
        if interrupted {
            Self::Interrupted
        } else if any(OutcomeKind::is_failure) || !summary.problems.is_empty() {
            Self::NotConformant
        } else if any(OutcomeKind::is_error) || !summary.left_behind.is_empty() {
            Self::Errored
        } else if !any(|kind| kind != OutcomeKind::Skipped) {
            Self::NothingRan
        } else {
            Self::Conformant
        }
    }

    /// The run's final line.
    #[must_use]
    pub fn line(self, summary: &Summary) -> String {
        let totals = &summary.totals;
        let count = |kind: OutcomeKind| totals.outcomes.get(&kind).copied().unwrap_or(0);
        let failing = count(OutcomeKind::Fail) + count(OutcomeKind::UnexpectedPass);
        let erroring = count(OutcomeKind::Errored) + count(OutcomeKind::TimedOut);
        let skipped = count(OutcomeKind::Skipped);
        let ran = totals.cases.saturating_sub(skipped);
        match self {
            Self::Interrupted => format!("interrupted: {ran} of {} ran, {failing} failed", cases(totals.cases)),
            Self::NotConformant => {
                let mut parts = Vec::new();
                if failing > 0 {
                    parts.push(format!("{failing} of {} failed", cases(ran)));
                }
                if erroring > 0 {
                    parts.push(format!("{erroring} errored"));
                }
                match summary.problems.len() {
                    0 => {}
                    1 => parts.push("1 problem of the run".to_owned()),
                    more => parts.push(format!("{more} problems of the run")),
                }
                parts.extend(leaks(summary));
                format!("not conformant: {}", parts.join(", "))
            }
            Self::Errored => {
                let failed = format!("harness or environment failed in {erroring} of {}: nothing is known of those", cases(ran));
                let parts = [(erroring > 0).then_some(failed), leaks(summary)];
                format!("error: {}", parts.into_iter().flatten().collect::<Vec<_>>().join("; "))
            }
            Self::NothingRan if totals.cases == 0 => "nothing ran: no case was selected".to_owned(),
            Self::NothingRan => format!("nothing ran: {} skipped", cases(totals.cases)),
            Self::Conformant => match count(OutcomeKind::Deviates) {
                0 => format!("conformant: {} ran", cases(ran)),
                deviating => format!("conformant: {} ran, {deviating} with known deviations", cases(ran)),
            },
        }
    }
}

fn leaks(summary: &Summary) -> Option<String> {
    let number = summary.left_behind.len();
    (number > 0).then(|| plural(number, "leak"))
}

fn cases(number: usize) -> String {
    if number == 1 { "1 case".to_owned() } else { format!("{number} cases") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn summary(outcomes: &[(OutcomeKind, usize)], problems: usize) -> Summary {
        let mut summary = fixture::summary();
        summary.left_behind = Vec::new();
        summary.problems = vec!["stale".to_owned(); problems];
        summary.totals.cases = outcomes.iter().map(|(_, count)| count).sum();
        summary.totals.outcomes = outcomes.iter().copied().collect();
        summary
    }

    #[test]
    fn the_worst_that_happened_decides() {
        use OutcomeKind as K;
        type Row<'a> = (&'a [(K, usize)], usize, &'a str);
        let table: &[Row<'_>] = &[
            (&[(K::Pass, 3)], 0, "conformant: 3 cases ran"),
            (&[(K::Pass, 3), (K::Deviates, 1), (K::Skipped, 9)], 0, "conformant: 4 cases ran, 1 with known deviations"),
            (&[(K::Pass, 3), (K::Fail, 1), (K::Errored, 1)], 0, "not conformant: 1 of 5 cases failed, 1 errored"),
            (&[(K::Pass, 3), (K::UnexpectedPass, 1)], 0, "not conformant: 1 of 4 cases failed"),
            (&[(K::Pass, 3)], 1, "not conformant: 1 problem of the run"),
            (&[(K::Pass, 3), (K::TimedOut, 1)], 0, "error: harness or environment failed in 1 of 4 cases: nothing is known of those"),
            (&[(K::Pass, 0), (K::Skipped, 2)], 0, "nothing ran: 2 cases skipped"),
            (&[], 0, "nothing ran: no case was selected"),
        ];
        for (outcomes, problems, line) in table {
            let summary = summary(outcomes, *problems);
            assert_eq!(RunResult::of(&summary, false).line(&summary), *line);
        }
        let table: &[Row<'_>] = &[
            (&[(K::Pass, 3)], 0, "error: 1 leak"),
            (
                &[(K::Pass, 3), (K::Errored, 1)],
                0,
                "error: harness or environment failed in 1 of 4 cases: nothing is known of those; 1 leak",
            ),
            (&[(K::Pass, 3), (K::Fail, 1)], 0, "not conformant: 1 of 4 cases failed, 1 leak"),
            (&[(K::Skipped, 2)], 0, "error: 1 leak"),
        ];
        for (outcomes, problems, line) in table {
            let mut summary = summary(outcomes, *problems);
            summary.left_behind = vec!["a volume".to_owned()];
            assert_eq!(RunResult::of(&summary, false).line(&summary), *line);
        }
        let summary = summary(&[(K::Pass, 3), (K::Skipped, 2)], 0);
        assert_eq!(RunResult::of(&summary, true).line(&summary), "interrupted: 3 of 5 cases ran, 0 failed");
    }
}
