//! Which cases a command line means.

use super::args::SelectArgs;
use super::error::CliError;
use expand::Selection;
use model::case::Case;

/// The cases of a plan that are meant, at least one.
pub(super) fn selected(args: &SelectArgs, plan: Vec<Case>) -> Result<Vec<Case>, CliError> {
    let selection = Selection {
        ids: args.ids.clone(),
        postgres: args.postgres.clone(),
        drivers: args.driver.clone(),
        deployment: args.deployment,
        partition: args.partition.map(|partition| (partition.index - 1, partition.count)),
    };
    Ok(selection.apply(plan)?)
}
