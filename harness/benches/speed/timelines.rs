//! All timelines in one run: the wall time, and how exactly the ends of outages are known. Their pace is set, so that there is no yardstick
//! beside them but the goals.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;

use model::report::Report as RunReport;
use os::child::ChildSpec;
use report::tables::Rows;
use serde::Serialize;

use crate::Error;
use crate::say;
use crate::site::Site;
use crate::statistics::{median, range};
use crate::table::{WIDTH, number};
use crate::throughput::timed;

/// Seconds of the whole set, at most, on the two processors that the goal was set for.
const WALL_GOAL: f64 = 90.0;
/// Milliseconds within which the ends of an outage are known.
const RESOLUTION_GOAL: f64 = 50.0;

/// How long the timelines took, and how exactly their outages are known.
#[derive(Debug, Serialize)]
pub(crate) struct Timelines {
    /// How many timelines ran: all, or a tenth with `--quick`.
    cases: usize,
    /// How many of them did not pass or deviate as described.
    unsuccessful: usize,
    /// Seconds from the process's start to its end.
    wall_seconds: f64,
    /// Seconds that the timelines took of it.
    timeline_seconds: f64,
    /// Of every outage of every client, in milliseconds.
    known_to_ms: Vec<f64>,
    /// Of every client, the longest time between two attempts, in milliseconds.
    longest_gap_ms: Vec<f64>,
    /// Whether all were run.
    all: bool,
}

/// Runs all timelines, or a tenth of them, in one process.
pub(crate) fn measure(site: &Site, quick: bool) -> Result<Timelines, Error> {
    say("timelines");
    let timelines: BTreeSet<String> = site.plan()?.into_iter().filter(|case| case.timeline.is_some()).map(|case| case.scenario).collect();
    let report = site.directory().join("timelines.json");
    let mut spec = ChildSpec::new(&site.harness, site.directory().join("timelines.log")).arg("run");
    for scenario in timelines {
        spec = spec.arg(scenario);
    }
    let every = if quick { 10 } else { 1 };
    spec = spec.arg("--partition").arg(format!("1/{every}")).arg("--report").arg(format!("json={}", report.display()));
    spec = spec.arg("--evidence").arg(site.root.join("reports/bench-evidence"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Not conformant is no failure of the measurement; the table says so.
    let (wall, _) = runtime.block_on(timed(site, spec, &[0, 1]))?;
    let report: RunReport = serde_json::from_reader(BufReader::new(File::open(&report)?))?;
    let clients = || report.cases.iter().filter_map(|case| case.timeline.as_ref()).flat_map(|timeline| &timeline.clients);
    let bad = |kind: model::outcome::OutcomeKind| kind.is_failure() || kind.is_error();
    Ok(Timelines {
        cases: report.cases.iter().filter(|case| case.timeline.is_some()).count(),
        unsuccessful: report.cases.iter().filter(|case| bad(case.outcome.kind())).count(),
        wall_seconds: wall.as_secs_f64(),
        timeline_seconds: report.totals.timeline_seconds,
        known_to_ms: clients().flat_map(|client| &client.outages).map(|outage| outage.known_to_ms).collect(),
        longest_gap_ms: clients().filter_map(|client| client.resolution_ms).collect(),
        all: every == 1,
    })
}

impl Timelines {
    /// As a table, with the goals.
    pub(crate) fn text(&self) -> String {
        let row = |what: &str, samples: &[f64]| {
            let within = samples.iter().filter(|sample| **sample <= RESOLUTION_GOAL).count();
            vec![
                what.to_owned(),
                samples.len().to_string(),
                number(median(samples), 1),
                number(range(samples).map(|(_, greatest)| greatest), 1),
                within.to_string(),
            ]
        };
        let rows = vec![row("an outage's ends", &self.known_to_ms), row("a client's longest gap", &self.longest_gap_ms)];
        let head = vec!["known to, ms", "samples", "median", "worst", "within 50"];
        let table = Rows { head, rows, numbers_from: 1, omitted: 0 };
        let met = |met: bool| if met { "met" } else { "missed" };
        let worst = range(&self.known_to_ms).map_or(0.0, |(_, greatest)| greatest);
        let wall = if self.all {
            format!("goal, at most {WALL_GOAL:.0} s on 2 processors: {} ({:.1} s)", met(self.wall_seconds <= WALL_GOAL), self.wall_seconds)
        } else {
            format!("goal, at most {WALL_GOAL:.0} s on 2 processors: it is for all timelines, which --quick leaves out")
        };
        [
            format!(
                "Timelines: {} in {:.1} s, {:.1} s of it at their clients' pace; {} did not end as expected",
                self.cases, self.wall_seconds, self.timeline_seconds, self.unsuccessful
            ),
            table.render(WIDTH),
            wall,
            format!("goal, every outage known to {RESOLUTION_GOAL:.0} ms: {} (worst {worst:.1} ms)", met(worst <= RESOLUTION_GOAL)),
        ]
        .join("\n")
    }
}
