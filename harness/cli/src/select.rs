//! Which cases a command line means.

use std::io::Write as _;

use super::args::SelectArgs;
use super::error::CliError;
use expand::Selection;
use model::case::Case;

/// The cases of a plan that are meant, at least one. What is asked for in vain beside them is told on standard error.
pub(super) fn selected(args: &SelectArgs, plan: Vec<Case>) -> Result<Vec<Case>, CliError> {
    let selection = Selection {
        ids: args.ids.clone(),
        postgres: args.postgres.clone(),
        drivers: args.driver.clone(),
        deployment: args.deployment,
        partition: args.partition.map(|partition| (partition.index - 1, partition.count)),
    };
    let selected = selection.apply(plan)?;
    for unmatched in &selected.unmatched {
        // Nobody is left to tell.
        let _ = writeln!(std::io::stderr(), "warning: {unmatched}");
    }
    Ok(selected.cases)
}
