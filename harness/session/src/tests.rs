//! The shipped scenarios, with every driver and version that the harness knows.

use std::collections::BTreeSet;
use std::path::Path;

use expand::{Catalogue, expand};
use load::{LoadError, ScenarioSet};
use model::connect::NAUTOBOT_MOUNT;
use os::toolchain::POSTGRES_MAJORS;

#[test]
fn our_own_scenario_set_loads_and_every_case_has_an_expectation() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let set = ScenarioSet::load(&[directory]).unwrap_or_else(|errors| panic!("{}", lines(&errors)));
    let catalogue = Catalogue { drivers: driver::catalogue::known(), postgres: POSTGRES_MAJORS.to_vec(), mount: NAUTOBOT_MOUNT.to_owned() };
    let cases = expand(&set, &catalogue).unwrap_or_else(|errors| panic!("{}", lines(&errors)));
    let ids: BTreeSet<&str> = cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids.len(), cases.len(), "case ids are unique");
}

fn lines(errors: &[LoadError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
