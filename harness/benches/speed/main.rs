//! `make bench`: how fast the harness is, beside what is possible on the same machine at the same time.
//!
//! Three measurements, each beside its yardstick and interleaved with it, so that a machine that gets busy slows both: whole runs beside a
//! bare loop that makes the same connections ([`throughput`]), server starts ([`starts`]), and single connections beside `pgbench -C`
//! ([`connections`]). Runs with servers in containers beside the same runs here ([`containers`]). And the timelines, whose pace is set
//! ([`timelines`]). And the room that a run takes ([`space`]). Prints tables, and writes `reports/bench.json` with every raw sample.

mod args;
mod bare;
mod connections;
#[cfg(feature = "container")]
mod containers;
mod contender;
mod pgbench;
mod report;
mod site;
mod space;
mod starts;
mod statistics;
mod table;
mod throughput;
mod timelines;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Part};
use report::Report;
use site::Site;

/// What ends the program: one text that says what was tried and what was found.
pub(crate) type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match (args.bare_loop, &args.output) {
        (Some(size), Some(output)) => bare::main(size, output),
        _ => measure(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell if standard error is closed.
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), Error> {
    let site = Site::find()?;
    let mut report = Report::begin(&site)?;
    if let Some(warning) = report.busy() {
        say(&warning);
    }
    let effort = args.effort();
    if args.measures(Part::Throughput) {
        report.throughput = Some(throughput::measure(&site, &effort)?);
    }
    if args.measures(Part::Starts) {
        report.starts = Some(starts::measure(&site, &effort)?);
    }
    if args.measures(Part::Connections) {
        report.connections = Some(connections::measure(&site, &effort)?);
    }
    if args.measures(Part::Timelines) {
        report.timelines = Some(timelines::measure(&site, args.is_quick())?);
    }
    if args.measures(Part::Space) {
        report.space = Some(space::measure(&site, args.is_quick())?);
    }
    #[cfg(feature = "container")]
    if args.measures(Part::Containers) {
        // Without an engine, or with one that fails, the rest was measured all the same.
        match containers::measure(&site, args.is_quick()) {
            Ok(measured) => report.containers = Some(measured),
            Err(error) => report.no_containers = Some(error.to_string()),
        }
    }
    report.end();
    writeln!(std::io::stdout().lock(), "{}", report.tables())?;
    let path = args.output.clone().unwrap_or_else(|| site.root.join("reports/bench.json"));
    report.write(&path)?;
    say(&format!("all samples: {}", path.display()));
    Ok(())
}

/// Progress, on standard error.
pub(crate) fn say(text: &str) {
    // Progress that nobody can read is no failure.
    let _ = writeln!(std::io::stderr(), "{text}");
}
