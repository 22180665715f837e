//! A server's container that somebody else ends.

use super::ends::Contained;
use crate::lost_servers::{OPTIONS, ROUNDS, assert_errored};

#[test]
fn a_container_that_is_killed_from_outside_in_mid_run_makes_errors_and_no_failures() {
    let Some(mut run) = Contained::reach(ROUNDS, &OPTIONS) else { return };
    // Each PostgreSQL has one; which deployment's this is does not matter.
    let owned = run.outside.owned(&run.run);
    let container = owned.iter().find_map(|owned| owned.strip_prefix("container /").filter(|name| name.contains("-postgres-17-")));
    let container = container.unwrap_or_else(|| panic!("a PostgreSQL runs: {owned:?}"));
    run.outside.ask(&format!("containers/{container}/kill"), &["--request", "POST"]).expect("the engine kills it");
    assert_errored(&mut run.middle, "postgres-17-");
    run.assert_nothing_is_left();
}
