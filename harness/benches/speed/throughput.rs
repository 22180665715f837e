//! Whole runs of the harness, start-up included, beside the bare loop that makes the same connections.

use std::fs::File;
use std::io::BufReader;
use std::time::{Duration, Instant};

use model::outcome::OutcomeKind;
use model::report::Totals;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use os::child::{ChildSpec, tail};
use os::toolchain::DIRECTORY_VARIABLE;
use report::tables::Rows;
use serde::{Deserialize, Serialize};

use crate::args::{Effort, Size};
use crate::bare::{self, Done};
use crate::site::{CACHE_VARIABLE, Site};
use crate::table::{WIDTH, number};
use crate::{Error, say};

/// Cases a second of a run of all cases, at least, on the two processors that the goal was set for.
const RATE_GOAL: f64 = 250.0;

/// A run's connections a second as a part of the bare loop's, at least.
const RATIO_GOAL: f64 = 0.75;

/// How long one run may take: many times what the longest does.
const LIMIT: Duration = Duration::from_secs(1800);

/// Runs of every size, each beside the bare loop.
#[derive(Debug, Serialize)]
pub(crate) struct Throughput {
    /// The scenarios that both can run: those that only connect, from addresses that need no relay.
    scenarios: Vec<String>,
    /// The run and the bare loop, size by size.
    pairs: Vec<Pair>,
}

/// A run of the harness and the bare loop, one right after the other.
#[derive(Debug, Serialize)]
struct Pair {
    /// Which part of the cases, as in tables.
    size: String,
    /// One in so many cases was taken.
    every: usize,
    /// How often each of them was carried out.
    repeat: usize,
    harness: Run,
    bare: Run,
}

/// What one process did and needed: a run of the harness, or the bare loop.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    /// Cases that were carried out; skipped ones are none.
    pub(crate) cases: u64,
    /// Connections, positive controls included.
    connections: u64,
    /// From the process's start to its end.
    pub(crate) wall_seconds: f64,
    /// Processor time of the process and of all that it started, servers included: hardly changes with what else the machine does.
    cpu_seconds: f64,
    /// Its peak resident memory.
    peak_memory_bytes: u64,
    /// Cases that failed or could not be carried out: they wait for what does not come, and slow a run down.
    pub(crate) unsuccessful: u64,
}

impl Run {
    pub(crate) fn cases_per_second(&self) -> f64 {
        self.cases as f64 / self.wall_seconds
    }

    fn connections_per_second(&self) -> f64 {
        self.connections as f64 / self.wall_seconds
    }

    fn cpu_ms_per_connection(&self) -> f64 {
        self.cpu_seconds * 1e3 / self.connections as f64
    }

    fn mebibytes(&self) -> f64 {
        self.peak_memory_bytes as f64 / f64::from(1 << 20)
    }
}

impl Pair {
    fn ratio(&self) -> f64 {
        self.harness.connections_per_second() / self.bare.connections_per_second()
    }
}

/// What is read of a run's report.
#[derive(Deserialize)]
struct Tail {
    totals: Totals,
}

/// Measures the sizes that [`Effort::runs`] names, in its order: a run of the harness, then the bare loop of the same cases.
pub(crate) fn measure(site: &Site, effort: &Effort) -> Result<Throughput, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scenarios = bare::comparable(&site.plan()?);
    runtime.block_on(async {
        // Not counted: prepared data directories, and the file system's cache.
        say("whole runs: warming up");
        harness(site, &scenarios, Size { every: 100, repeat: 1 }).await?;
        let mut pairs = Vec::new();
        for (index, size) in effort.runs.iter().copied().enumerate() {
            say(&format!("whole runs: {} ({} of {})", size.name(), index + 1, effort.runs.len()));
            // Each first in turn.
            let (harness, bare) = if index % 2 == 0 {
                let harness = harness(site, &scenarios, size).await?;
                (harness, bare_loop(site, size).await?)
            } else {
                let bare = bare_loop(site, size).await?;
                (harness(site, &scenarios, size).await?, bare)
            };
            pairs.push(Pair { size: size.name(), every: size.every, repeat: size.repeat, harness, bare });
        }
        Ok(Throughput { scenarios, pairs })
    })
}

async fn harness(site: &Site, scenarios: &[String], size: Size) -> Result<Run, Error> {
    let partition = [format!("--partition=1/{}", size.every), format!("--repeat={}", size.repeat)];
    run(site, scenarios.iter().chain(&partition)).await
}

/// A run with these arguments.
pub(crate) async fn run(site: &Site, args: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Run, Error> {
    let report = site.directory().join("run.json");
    let spec = ChildSpec::new(&site.harness, site.directory().join("harness.log")).arg("run");
    let spec = args.into_iter().fold(spec, |spec, arg| spec.arg(arg.as_ref()));
    let evidence = site.root.join("reports/bench-evidence");
    let spec = spec.arg("--report").arg(format!("json={}", report.display())).arg("--evidence").arg(evidence);
    // Cases that failed or could not be carried out are no failure of the measurement; the table says so.
    let (wall, cpu_seconds) = timed(site, spec, &[0, 1, 3]).await?;
    let Tail { totals } = serde_json::from_reader(BufReader::new(File::open(&report)?))?;
    let count = |wanted: &dyn Fn(OutcomeKind) -> bool| -> u64 {
        let counts = totals.outcomes.iter().filter(|(kind, _)| wanted(**kind)).map(|(_, count)| *count as u64);
        counts.sum()
    };
    Ok(Run {
        cases: count(&|kind| kind != OutcomeKind::Skipped),
        connections: totals.connections,
        wall_seconds: wall.as_secs_f64(),
        cpu_seconds,
        peak_memory_bytes: totals.peak_memory_bytes,
        unsuccessful: count(&|kind| kind.is_failure() || kind.is_error()),
    })
}

async fn bare_loop(site: &Site, size: Size) -> Result<Run, Error> {
    let output = site.directory().join("bare.json");
    let spec = ChildSpec::new(std::env::current_exe()?, site.directory().join("bare.log"));
    let spec = spec.arg("--bare-loop").arg(size.to_string()).arg("--output").arg(&output);
    let (wall, cpu_seconds) = timed(site, spec, &[0]).await?;
    let done: Done = serde_json::from_reader(BufReader::new(File::open(&output)?))?;
    Ok(Run {
        cases: done.cases,
        connections: done.connections,
        wall_seconds: wall.as_secs_f64(),
        cpu_seconds,
        peak_memory_bytes: done.peak_memory_bytes,
        unsuccessful: 0,
    })
}

/// Runs a process to its end, which must be one of `statuses`. Gives its time, and the processor seconds of all that ended with it.
pub(crate) async fn timed(site: &Site, spec: ChildSpec, statuses: &[i32]) -> Result<(Duration, f64), Error> {
    let mut spec = spec.env(DIRECTORY_VARIABLE, &site.toolchain_directory).env(CACHE_VARIABLE, &site.cache);
    spec.directory = Some(site.root.clone());
    let (log, command) = (spec.log.clone(), spec.command_line());
    let cpu_before = cpu_of_children()?;
    let begun = Instant::now();
    let mut child = spec.spawn().await?;
    let ended = tokio::time::timeout(LIMIT, child.wait()).await;
    let wall = begun.elapsed();
    let said = || tail(&log, 20);
    match ended {
        Ok(Ok(status)) if status.code().is_some_and(|code| statuses.contains(&code)) => Ok((wall, cpu_of_children()? - cpu_before)),
        Ok(Ok(status)) => Err(format!("`{command}` ended with {status}; its last words:\n{}", said()).into()),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => {
            child.stop(Duration::from_secs(5)).await;
            Err(format!("`{command}` did not end within {LIMIT:?}; its last words:\n{}", said()).into())
        }
    }
}

/// Processor seconds of all children that have ended, and theirs: see getrusage(2).
fn cpu_of_children() -> Result<f64, Error> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6)
}

impl Throughput {
    /// As a table, with the goals.
    pub(crate) fn text(&self) -> String {
        let row = |size: &str, who: &str, run: &Run, ratio: Option<f64>| {
            vec![
                size.to_owned(),
                who.to_owned(),
                run.cases.to_string(),
                run.unsuccessful.to_string(),
                run.connections.to_string(),
                number(Some(run.wall_seconds), 2),
                number(Some(run.cases_per_second()), 0),
                number(Some(run.connections_per_second()), 0),
                number(Some(run.cpu_ms_per_connection()), 2),
                number(Some(run.mebibytes()), 0),
                ratio.map(|ratio| number(Some(ratio), 2)).unwrap_or_default(),
            ]
        };
        let rows = self.pairs.iter().flat_map(|pair| {
            [row(&pair.size, "harness", &pair.harness, Some(pair.ratio())), row(&pair.size, "bare loop", &pair.bare, None)]
        });
        let head = vec![
            "part",
            "who",
            "cases",
            "failed",
            "connections",
            "wall s",
            "cases/s",
            "connections/s",
            "CPU ms/connection",
            "peak MiB",
            "harness / bare",
        ];
        let table = Rows { head, rows: rows.collect(), numbers_from: 2, omitted: 0 };
        let mut lines = vec!["Whole runs, start-up included, each in a process of its own".to_owned(), table.render(WIDTH)];
        lines.extend(
            self.pairs
                .iter()
                .filter(|pair| pair.harness.connections != pair.bare.connections)
                .map(|pair| format!("note, {}: the two did not make the same connections, so that their ratio is a little off", pair.size)),
        );
        lines.extend(self.goals());
        lines.join("\n")
    }

    fn goals(&self) -> Vec<String> {
        let Some(largest) = self.pairs.iter().max_by_key(|pair| pair.harness.cases) else { return Vec::new() };
        let smallest = self.pairs.iter().min_by_key(|pair| pair.harness.cases).unwrap_or(largest);
        let met = |met: bool| if met { "met" } else { "missed" };
        let (rate, ratio) = (largest.harness.cases_per_second(), largest.ratio());
        vec![
            if largest.every == 1 {
                format!(
                    "goal, at least {RATE_GOAL:.0} cases a second on 2 processors: {} ({rate:.0}, {})",
                    met(rate >= RATE_GOAL),
                    largest.size
                )
            } else {
                format!("goal, at least {RATE_GOAL:.0} cases a second on 2 processors: it is for all cases, which --quick leaves out")
            },
            format!("goal, at least {RATIO_GOAL} of the bare loop: {} ({ratio:.2}, {})", met(ratio >= RATIO_GOAL), largest.size),
            format!(
                "goal, memory flat as cases grow: {:.0} MiB at {} cases, {:.0} MiB at {}",
                smallest.harness.mebibytes(),
                smallest.harness.cases,
                largest.harness.mebibytes(),
                largest.harness.cases
            ),
        ]
    }
}
