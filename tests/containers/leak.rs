//! What a run can't remove is an error of the run.

use model::report::Report;
use serde_json::json;

use super::ends::Contained;
use super::outside::{Outside, POSTGRES};
use crate::support::REPORT;

/// A volume that carries a run's label, and a container that doesn't and uses it.
struct Planted<'a> {
    outside: &'a Outside,
    volume: String,
    container: String,
}

impl<'a> Planted<'a> {
    fn new(outside: &'a Outside, run: &str) -> Self {
        let planted = Self { outside, volume: format!("planted-{run}"), container: format!("foreign-{run}") };
        let volume = json!({"Name": planted.volume, "Labels": {"mtls-conformance.run": run}});
        outside.post("volumes/create", &volume).expect("makes the volume");
        let mount = json!({"Type": "volume", "Source": planted.volume, "Target": "/used"});
        let container = json!({"Image": POSTGRES, "Cmd": ["true"], "HostConfig": {"Mounts": [mount]}});
        outside.post(&format!("containers/create?name={}", planted.container), &container).expect("makes the container");
        planted
    }
}

impl Drop for Planted<'_> {
    fn drop(&mut self) {
        self.outside.remove(&format!("containers/{}?force=true", self.container));
        self.outside.remove(&format!("volumes/{}", self.volume));
    }
}

#[test]
fn what_can_not_be_removed_is_an_error_of_the_run_with_a_line_of_its_own() {
    let Some(mut run) = Contained::reach("5", &REPORT) else { return };
    let planted = Planted::new(&run.outside, &run.run);
    let code = run.middle.harness.wait().code();
    let said = run.middle.harness.said();
    assert_eq!(code, Some(3), "{said}");
    let left = run.outside.owned(&run.run);
    assert_eq!(left, [format!("volume {}", planted.volume)], "everything else is removed");
    let line = said.lines().find_map(|line| line.strip_prefix("LEFT BEHIND ")).unwrap_or_else(|| panic!("no line of its own: {said}"));
    assert!(line.starts_with(&format!("the volume {} is left of the run: ", planted.volume)), "{line}");
    assert!(line.contains("volume is in use") && line.ends_with(&format!("`docker volume rm {}`", planted.volume)), "{line}");
    assert!(said.ends_with("error: 1 leak\n"), "{said}");
    let report = std::fs::read(run.middle.directory.path().join("report.json")).expect("a report");
    let report: Report = serde_json::from_slice(&report).expect("is a report");
    assert_eq!(report.left_behind, [line]);
    assert_eq!(report.problems, [""; 0], "it is no problem of conformance");
    drop(planted);
    run.assert_nothing_is_left();
}
