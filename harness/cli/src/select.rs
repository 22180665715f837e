//! Which cases a command line means.

use std::io::Write as _;

use super::args::SelectArgs;
use super::error::CliError;
use super::exit::Exit;
use load::Selection;
use load::select::SelectError;
use model::case::Case;
use model::causes::with_causes;

/// The cases of a plan that are meant, at least one. What is asked for in vain beside them is told on standard error.
pub(super) fn selected(args: &SelectArgs, plan: Vec<Case>) -> Result<Vec<Case>, CliError> {
    let selection = Selection {
        ids: args.ids.clone(),
        postgres: args.postgres.clone(),
        drivers: args.driver.clone(),
        deployment: args.deployment,
        partition: args.partition.map(|partition| (partition.index - 1, partition.count)),
    };
    let selected = selection.apply(plan).map_err(|error| {
        let exit = match error {
            SelectError::Pattern { .. } => Exit::Usage,
            SelectError::Empty | SelectError::Unmatched(_) | SelectError::Together { .. } => Exit::NothingRan,
        };
        CliError { message: with_causes(&error), exit }
    })?;
    for unmatched in &selected.unmatched {
        // Nobody is left to tell.
        let _ = writeln!(std::io::stderr(), "warning: {unmatched}");
    }
    Ok(selected.cases)
}
