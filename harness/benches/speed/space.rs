//! How much room a run of all cases takes: the peak of what is in its directory, which is in memory.

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use os::child::ChildSpec;
use report::tables::Rows;
use serde::Serialize;

use crate::site::Site;
use crate::table::{WIDTH, number};
use crate::throughput::timed;
use crate::{Error, say};

/// Megabytes that a run may take at most.
const GOAL: f64 = 256.0;

/// How often the directory is looked at. A look takes some milliseconds, and a server lives for seconds.
const INTERVAL: Duration = Duration::from_millis(100);

/// The room that a run took.
#[derive(Debug, Serialize)]
pub(crate) struct Space {
    /// Bytes at the peak.
    peak_bytes: u64,
    /// What they were at that moment, by the first folder in the run's directory.
    at_peak: Vec<Part>,
    /// How often it was looked at.
    samples: usize,
    /// Seconds from the process's start to its end.
    wall_seconds: f64,
    /// Whether all cases were run.
    all: bool,
}

/// A folder of the run's directory, or all installations.
#[derive(Debug, Serialize)]
struct Part {
    name: String,
    bytes: u64,
}

/// Runs all cases, or a tenth of them, and looks at the run's directory meanwhile.
pub(crate) fn measure(site: &Site, quick: bool) -> Result<Space, Error> {
    say("space");
    // Not in our own directory: servers of another process could not come there.
    let place = tempfile::Builder::new().prefix("room-").permissions(Permissions::from_mode(0o711)).tempdir_in("/dev/shm")?;
    let place = place.path();
    let every = if quick { 10 } else { 1 };
    let spec = ChildSpec::new(&site.harness, site.directory().join("space.log")).arg("run").arg("--run-dir").arg(place);
    let spec = spec.arg("--partition").arg(format!("1/{every}")).arg("--evidence").arg(site.root.join("reports/bench-evidence"));
    let ended = AtomicBool::new(false);
    let (peak, timed) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(place, &ended));
        let timed = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::from)
            // Not conformant is no failure of the measurement.
            .and_then(|runtime| runtime.block_on(timed(site, spec, &[0, 1])));
        ended.store(true, Ordering::Relaxed);
        (watcher.join(), timed)
    });
    let (wall, _) = timed?;
    let (parts, samples) = peak.map_err(|_| "the thread that looks at the run's directory panicked")?;
    Ok(Space {
        peak_bytes: parts.iter().map(|part| part.bytes).sum(),
        at_peak: parts,
        samples,
        wall_seconds: wall.as_secs_f64(),
        all: every == 1,
    })
}

/// Looks until `ended`; what was there at the peak, and how often it was looked at.
fn watch(place: &Path, ended: &AtomicBool) -> (Vec<Part>, usize) {
    let (mut peak, mut highest, mut samples) = (Vec::new(), 0, 0);
    while !ended.load(Ordering::Relaxed) {
        let parts = parts(place);
        let bytes: u64 = parts.iter().map(|part| part.bytes).sum();
        if bytes > highest {
            (peak, highest) = (parts, bytes);
        }
        samples += 1;
        std::thread::sleep(INTERVAL);
    }
    (peak, samples)
}

/// The folders of the run's directories in a place; all installations (`i1`, `i2`, ...) are one.
fn parts(place: &Path) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for entry in entries(place).iter().flat_map(|run| entries(run)) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.strip_prefix('i').is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
        let name = if number { "installations".to_owned() } else { name };
        let bytes = room(&entry);
        match parts.iter_mut().find(|part| part.name == name) {
            Some(part) => part.bytes += bytes,
            None => parts.push(Part { name, bytes }),
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    parts
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// What a file takes, or a folder with all that is in it. Something that is gone meanwhile takes nothing.
fn room(path: &Path) -> u64 {
    let Ok(status) = std::fs::symlink_metadata(path) else { return 0 };
    let below: u64 = if status.is_dir() { entries(path).iter().map(|entry| room(entry)).sum() } else { 0 };
    below + status.blocks() * 512
}

impl Space {
    /// As a table, with the goal.
    pub(crate) fn text(&self) -> String {
        let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let row = |part: &Part| vec![part.name.clone(), number(Some(megabytes(part.bytes)), 1)];
        const SHOWN: usize = 12;
        let table = Rows {
            head: vec!["at the peak", "MB"],
            rows: self.at_peak.iter().take(SHOWN).map(row).collect(),
            numbers_from: 1,
            omitted: self.at_peak.len().saturating_sub(SHOWN),
        };
        let peak = megabytes(self.peak_bytes);
        let goal = match (self.all, peak <= GOAL) {
            (false, _) => "it is for all cases, which --quick leaves out",
            (true, true) => "met",
            (true, false) => "missed",
        };
        format!(
            "Room that a run takes in memory: {peak:.0} MB at its peak ({} looks in {:.1} s)\n{}\ngoal, at most {GOAL:.0} MB: {goal}",
            self.samples,
            self.wall_seconds,
            table.render(WIDTH)
        )
    }
}
