//! The claims that a run's selection of cases is about.

use super::text::plural;
use check::ledger::NOT_SELECTED;
use model::report::ClaimRecord;

/// The claims that a reader of this run wants to see, and the number of the others. After a run of all cases these are all claims, those that
/// still wait for something included. After a run of some, they are those that a selected case bears on.
pub(crate) fn of_selection(claims: &[ClaimRecord]) -> (Vec<&ClaimRecord>, usize) {
    // A claim that a scenario names has a case in every complete run: the loader refuses the others.
    let partial = claims.iter().any(|claim| claim.cases.is_empty() && claim.reason.as_deref() == Some(NOT_SELECTED));
    let shown: Vec<&ClaimRecord> = claims.iter().filter(|claim| !partial || !claim.cases.is_empty()).collect();
    let others = claims.len() - shown.len();
    (shown, others)
}

/// `66 other claims: no selected case bears on them`; `None` where there are none.
pub(crate) fn others(number: usize) -> Option<String> {
    let them = if number == 1 { "it" } else { "them" };
    (number > 0).then(|| format!("{}: no selected case bears on {them} (the json report has all)", plural(number, "other claim")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn after_a_run_of_some_cases_their_claims_are_shown_and_the_others_are_counted() {
        let mut claims = fixture::summary().claims;
        assert_eq!((of_selection(&claims).0.len(), of_selection(&claims).1), (claims.len(), 0), "every claim has cases");
        for claim in &mut claims[..2] {
            claim.cases.clear();
            claim.reason = Some("needs kind: it waits".to_owned());
        }
        assert_eq!(of_selection(&claims).1, 0, "a complete run shows what claims wait for");
        claims[2].cases.clear();
        claims[2].reason = Some(NOT_SELECTED.to_owned());
        let (shown, number) = of_selection(&claims);
        assert_eq!(shown.iter().map(|claim| &claim.id).collect::<Vec<_>>(), claims[3..].iter().map(|claim| &claim.id).collect::<Vec<_>>());
        assert_eq!(others(number).as_deref(), Some("3 other claims: no selected case bears on them (the json report has all)"));
        assert_eq!(others(0), None);
    }
}
