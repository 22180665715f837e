//! Where the harness's own files are: scenarios, manifests, toolchain, cache.

use std::path::{Path, PathBuf};

use super::args::{CacheArgs, PlacesArgs, SetArgs};
use super::error::CliError;
use load::ScenarioSet;
use os::access::{self, Use};

/// The last run's summary, in the cache directory: what `claims` shows.
pub(super) const LAST_RUN: &str = "last-run.json";

/// The directory that holds `scenarios/claims.yaml`: upwards from the working directory, else from the executable, else where it was built.
pub(super) fn home() -> Result<PathBuf, CliError> {
    let here = std::env::current_dir().ok();
    let executable = std::env::current_exe().ok();
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf();
    let starts = [here, executable, Some(built)];
    for start in starts.iter().flatten() {
        if let Some(found) = start.ancestors().find(|directory| directory.join("scenarios/claims.yaml").is_file()) {
            return Ok(found.to_path_buf());
        }
    }
    // What is closed may be what is looked for. Where it was built says nothing here.
    let found = starts.iter().take(2).flatten().flat_map(|start| start.ancestors());
    match found.filter_map(|directory| access::closed(&directory.join("scenarios/claims.yaml"), Use::Read)).next() {
        Some(closed) => Err(CliError::ClosedScenarios(closed)),
        None => Err(CliError::NoScenarios),
    }
}

pub(super) fn scenario_set(args: &SetArgs) -> Result<ScenarioSet, CliError> {
    let mut directories = Vec::new();
    if !args.only_given_scenarios {
        directories.push(home()?.join("scenarios"));
    }
    directories.extend(args.scenarios.iter().cloned());
    Ok(ScenarioSet::load(&directories)?)
}

pub(super) fn toolchain_directory(args: &PlacesArgs) -> PathBuf {
    args.toolchain.clone().unwrap_or_else(|| home().unwrap_or_default().join(".toolchain"))
}

/// What outlives a run: initdb results and the last run's summary.
pub(super) fn cache_directory(args: &CacheArgs) -> Result<PathBuf, CliError> {
    match &args.cache {
        Some(directory) => Ok(directory.clone()),
        None => Ok(home()?.join(".cache")),
    }
}
