//! `list`, `claims`, `doctor`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::args::{ClaimsArgs, DoctorArgs, ListArgs};
use super::error::CliError;
use super::home::{LAST_RUN, cache_directory, scenario_set, toolchain_directory};
use super::images::images;
use super::output::stdout;
use super::select::selected;
use crate::exit::Exit;
use driver::catalogue;
use driver::exec::ProgramLimits;
use expand::{Catalogue, expand};
use load::images::Images;
use model::case::Case;
use model::connect::NAUTOBOT_MOUNT;
use model::driver::DriverInfo;
use model::report::Summary;
use os::access::{self, Use};
use os::rundir::RunDir;
use os::space::Space;
use os::toolchain::{POSTGRES_MAJORS, Toolchain};
use session::drivers;

pub(super) fn list(args: &ListArgs) -> Result<Exit, CliError> {
    let set = scenario_set(&args.set)?;
    let catalogue = Catalogue { drivers: catalogue::known(), postgres: POSTGRES_MAJORS.to_vec(), mount: NAUTOBOT_MOUNT.to_owned() };
    let cases = selected(&args.select, expand(&set, &catalogue)?)?;
    let mut out = stdout();
    if args.cases {
        for case in &cases {
            writeln!(out, "{}", case.id)?;
        }
    } else {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for Case { scenario, .. } in &cases {
            *counts.entry(scenario).or_default() += 1;
        }
        for loaded in &set.scenarios {
            if let Some(count) = counts.get(loaded.scenario.id.raw().as_str()) {
                writeln!(out, "{:32} {count:6} cases  {}", loaded.scenario.id.raw(), loaded.scenario.title)?;
            }
        }
    }
    Ok(Exit::Conformant)
}

pub(super) fn claims(args: &ClaimsArgs) -> Result<Exit, CliError> {
    let set = scenario_set(&args.set)?;
    let file = match &args.report {
        Some(file) => Some(file.clone()),
        None => last_run(&cache_directory(&args.cache)?.join(LAST_RUN)),
    };
    let last = match &file {
        None => None,
        Some(file) => {
            let path = || file.clone();
            let text = std::fs::read(file).map_err(|source| CliError::Unreadable { path: path(), source })?;
            // A full report has `cases` beside what a summary has.
            let mut value: serde_json::Value =
                serde_json::from_slice(&text).map_err(|source| CliError::NotJson { path: path(), source })?;
            if let Some(object) = value.as_object_mut() {
                object.remove("cases");
            }
            let summary: Summary = serde_json::from_value(value).map_err(|source| CliError::OtherReport { path: path(), source })?;
            Some(summary)
        }
    };
    let mut out = stdout();
    let shown: Vec<_> = set.claims.iter().filter(|claim| !args.uncovered || claim.awaits.is_some()).cloned().collect();
    let width = width();
    match &last {
        Some(summary) => {
            let verdicts: Vec<_> =
                summary.claims.iter().filter(|record| shown.iter().any(|claim| claim.id == record.id)).cloned().collect();
            report::claims_table::write_verdicts(&mut out, &verdicts, width)?;
        }
        None => report::claims_table::write_claims(&mut out, &shown, width)?,
    }
    if let (None, false) = (&last, args.uncovered) {
        // Where it is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "no run has left verdicts yet: `mtls-conformance run` does");
    }
    Ok(Exit::Conformant)
}

/// The last run's summary, where there is one that this user may read; says why not.
fn last_run(file: &Path) -> Option<PathBuf> {
    let closed = access::closed(file, Use::Read);
    if let Some(closed) = &closed {
        let way_out = "--cache DIR or MTLS_CONFORMANCE_CACHE names a folder of your own, --report FILE a JSON report";
        // Where it is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "the last run's verdicts can't be read: {closed}; {way_out}");
    }
    (closed.is_none() && file.is_file()).then(|| file.to_path_buf())
}

pub(super) fn doctor(args: &DoctorArgs) -> Result<Exit, CliError> {
    let images = images(&args.images)?;
    let directory = toolchain_directory(&args.places);
    let toolchain = Toolchain::find(&directory);
    let infos = driver_infos(&toolchain)?;
    let mut out = stdout();
    report::doctor::write(&mut out, &toolchain, &infos, &directory, width())?;
    writeln!(out, "cache directory: {}", cache_directory(&args.cache)?.display())?;
    let (engine, states) = containers(&images);
    writeln!(out, "container engine: {engine}")?;
    report::doctor::write_images(&mut out, &images, &states, width())?;
    if toolchain.postgres.is_empty() {
        return Err(CliError::NoPostgres);
    }
    Ok(Exit::Conformant)
}

/// The container engine in a line, and what is known of each image, by its reference.
#[cfg(feature = "container")]
fn containers(images: &Images) -> (String, BTreeMap<String, String>) {
    use environment::container::engine::{Engine, EngineError};

    let states = async {
        let engine = Engine::connect().await?;
        let info = engine.info().await?;
        let mut states = BTreeMap::new();
        for candidate in images.iter().flat_map(|(_, candidates)| candidates) {
            let reference = candidate.reference.to_string();
            if engine.present(&reference).await? {
                let found = engine.resolve(&[&reference]).await?;
                states.insert(reference, found.digest.unwrap_or(found.id));
            }
        }
        Ok::<_, EngineError>((format!("Docker {} at {}, API {}, storage {}", info.version, info.host, info.api, info.storage), states))
    };
    let asked = tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| runtime.block_on(states));
    match asked {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => (format!("none for --environment container: {error}"), BTreeMap::new()),
        Err(error) => (format!("could not be asked: {error}"), BTreeMap::new()),
    }
}

/// Without the feature there is no `--environment container`.
#[cfg(not(feature = "container"))]
fn containers(_: &Images) -> (String, BTreeMap<String, String>) {
    ("not asked: this binary was built without the feature `container`".to_owned(), BTreeMap::new())
}

/// The terminal's width, or a readable one.
fn width() -> u16 {
    comfy_table::Table::new().width().unwrap_or(140)
}

/// Starts every driver that is there, to hear its versions.
fn driver_infos(toolchain: &Toolchain) -> Result<Vec<DriverInfo>, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    let harness = std::env::current_exe().map_err(CliError::OwnBinary)?;
    let directory = RunDir::create(&Space::default(), None)?;
    let names =
        catalogue::known().into_iter().map(|info| info.name).filter(|name| drivers::missing(name, toolchain, &[]).is_none()).collect();
    let mut infos: Vec<DriverInfo> = runtime.block_on(async {
        let running =
            drivers::start(&names, toolchain, drivers::Own::default(), &harness, directory.path(), ProgramLimits::default(), None).await;
        for driver in running.values() {
            driver.close().await;
        }
        running.values().map(|driver| driver.info().clone()).collect()
    });
    infos.sort_by(|one, other| one.name.cmp(&other.name));
    directory.close();
    Ok(infos)
}
