//! `run`: plans, wires environment, drivers and reporters together, and folds the events into an exit code.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use super::args::{EnvironmentName, Hold, RunArgs};
use super::home::{cache_directory, home, scenario_set, toolchain_directory};
use super::material::Issued;
use super::{CliError, drivers, list};
use crate::deployment::Manifests;
use crate::driver::Driver;
use crate::environment::Environment;
use crate::environment::local::{LocalEnvironment, LocalOptions, ManifestConfigurator};
use crate::exit::Exit;
use crate::load::expand::overdue;
use crate::load::{Catalogue, ScenarioSet, expand};
use crate::model::case::{Action, Case};
use crate::model::outcome::SkipReason;
use crate::model::report::{EnvironmentRecord, Summary};
use crate::model::server::ServerKey;
use crate::os::redact::Redactor;
use crate::os::rundir::RunDir;
use crate::os::toolchain::{POSTGRES_MAJORS, Toolchain};
use crate::os::user::RunAs;
use crate::pki::Pki;
use crate::report::standing::Standing;
use crate::report::{FileReports, ReportTarget, Terminal};
use crate::run::event::{Event, Reporter};
use crate::run::execute::{Limits, Workshop};
use crate::run::fold::Fold;
use crate::run::schedule::{Pace, run as run_cases};

/// The last run's summary, in the cache directory: what `claims` shows.
pub(super) const LAST_RUN: &str = "last-run.json";

/// How many of its own limits a slow machine may need: the interval between the first and the second Ctrl-C.
const EXIT_INTERRUPTED: i32 = 5;

pub(super) fn run(args: &RunArgs) -> Result<Exit, CliError> {
    let started = Instant::now();
    let set = scenario_set(&args.set)?;
    let toolchain = Toolchain::find(&toolchain_directory(&args.places));
    let cases = plan(args, &set, &toolchain)?;
    if cases.is_empty() {
        return Err(CliError {
            message: "no case matches; `mtls-conformance list` shows what there is".to_owned(),
            exit: Exit::NothingRan,
        });
    }
    ReportTarget::check_all(&args.report).map_err(|error| CliError::usage(error.to_string()))?;
    let manifests = match &args.manifests {
        Some(directory) => directory.clone(),
        None => home()?.join("kind/deployment"),
    };
    let manifests = Arc::new(Manifests::load(&manifests).map_err(|error| CliError::usage(error.to_string()))?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::environment(format!("could not start the runtime: {error}")))?;
    runtime.block_on(carry_out(args, &set, toolchain, cases, manifests, started))
}

/// The cases that are meant, with what can't run here marked.
fn plan(args: &RunArgs, set: &ScenarioSet, toolchain: &Toolchain) -> Result<Vec<Arc<Case>>, CliError> {
    let catalogue = Catalogue { drivers: drivers::known(&args.exec_driver), postgres: POSTGRES_MAJORS.to_vec() };
    let mut cases = list::selection(&args.select).apply(expand(set, &catalogue)?).map_err(CliError::usage)?;
    for case in &mut cases {
        let missing = driver_names(case).find_map(|name| drivers::missing(name, toolchain, &args.exec_driver));
        case.skip = missing.map(SkipReason::DriverMissing);
    }
    let cases: Vec<Arc<Case>> = cases.into_iter().map(Arc::new).collect();
    Ok(std::iter::repeat_n(cases, args.repeat.get()).flatten().collect())
}

fn driver_names(case: &Case) -> impl Iterator<Item = &str> {
    case.steps.iter().flat_map(|step| {
        let own = match &step.action {
            Action::Connect(plan) => Some(plan.driver.as_str()),
            Action::Openssl(_) => None,
        };
        own.into_iter().chain(step.control.as_ref().map(|plan| plan.driver.as_str()))
    })
}

async fn carry_out(
    args: &RunArgs,
    set: &ScenarioSet,
    toolchain: Toolchain,
    cases: Vec<Arc<Case>>,
    manifests: Arc<Manifests>,
    started: Instant,
) -> Result<Exit, CliError> {
    let interrupted = interruption();
    let harness = harness_binary()?;
    let directory = RunDir::create(Some(&harness)).map_err(|error| CliError::environment(error.to_string()))?;
    let pki = Arc::new(Pki::new(manifests, set.credentials.clone(), directory.path().join("pki"), RunAs::unprivileged()));
    let problems = pki.check();
    if !problems.is_empty() {
        let lines: Vec<String> = problems.iter().map(|problem| format!("{}: {}", problem.path.join("."), problem.message)).collect();
        return Err(CliError::usage(lines.join("\n")));
    }
    let EnvironmentName::Local = args.environment;
    let configurator = Arc::new(ManifestConfigurator::new(Arc::clone(&pki)));
    let options = LocalOptions::new(toolchain.clone(), directory.path(), cache_directory()?, configurator);
    let environment = Arc::new(LocalEnvironment::new(options).map_err(|error| CliError::environment(error.to_string()))?);
    let needed: BTreeSet<String> =
        cases.iter().filter(|case| case.skip.is_none()).flat_map(|case| driver_names(case)).map(str::to_owned).collect();
    let running = drivers::start(&needed, &toolchain, &args.exec_driver, &harness, directory.path()).await;
    let record = environment_record(environment.as_ref(), running.values());
    let workshop = Arc::new(Workshop {
        drivers: running,
        material: Arc::new(Issued { pki }),
        openssl: toolchain.openssl.as_ref().map(|tool| tool.path.clone()),
        limits: Limits { case: args.timeout, ..Limits::default() },
        evidence: Some(args.evidence.clone()),
        repro_options: repro_options(args),
    });
    let redactor = Redactor::new(environment.secrets());
    let fold = Fold::new(&set.claims, &cases, record.clone(), std::env::args().collect(), started)
        .map_err(|error| CliError::environment(error.to_string()))?;
    let (events, received) = mpsc::unbounded_channel();
    let begun = Event::RunStarted { environment: Box::new(record), planned: cases.len(), started_at: fold.started_at().to_owned() };
    let _ = events.send(begun);
    for problem in overdue(set, today()?) {
        let _ = events.send(Event::Problem(problem));
    }
    let reporters = reporters(args, redactor)?;
    let reporting = std::thread::spawn(move || report(received, reporters, fold));
    let jobs = args.jobs.map_or_else(|| std::thread::available_parallelism().map_or(8, |cpus| cpus.get() * 4), std::num::NonZeroUsize::get);
    let pace = Pace { jobs, fail_fast: args.fail_fast };
    let keys: BTreeSet<ServerKey> = cases.iter().filter(|case| case.skip.is_none()).map(|case| case.key).collect();
    run_cases(cases, Arc::clone(&environment) as Arc<dyn Environment>, Arc::clone(&workshop), pace, events, interrupted.clone()).await;
    let reported = tokio::task::spawn_blocking(move || reporting.join()).await;
    let outcome = match reported {
        Ok(Ok(outcome)) => outcome,
        _ => Err(CliError::environment("the reporters failed: this is a defect of the harness")),
    };
    let interrupted_now = *interrupted.borrow();
    let exit = outcome.as_ref().map(|(summary, errors)| exit_of(summary, errors, interrupted_now));
    if let Ok(exit) = exit
        && hold(args, exit)
    {
        hold_servers(environment.as_ref(), &keys, directory.path(), interrupted.clone()).await;
    }
    for driver in workshop.drivers.values() {
        driver.close().await;
    }
    environment.close().await;
    directory.close();
    let (summary, errors) = outcome?;
    save_last_run(&summary);
    if !errors.is_empty() {
        return Err(CliError::environment(errors.join("\n")));
    }
    Ok(exit_of(&summary, &[], interrupted_now))
}

fn exit_of(summary: &Summary, errors: &[String], interrupted: bool) -> Exit {
    match Standing::of(summary, interrupted) {
        Standing::Interrupted => Exit::Interrupted,
        Standing::NotConformant => Exit::NotConformant,
        Standing::Errored => Exit::Environment,
        Standing::NothingRan => Exit::NothingRan,
        Standing::Conformant if errors.is_empty() => Exit::Conformant,
        Standing::Conformant => Exit::Environment,
    }
}

/// The date in UTC.
fn today() -> Result<jiff::civil::Date, CliError> {
    let text = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    text.parse().map_err(|error| CliError::environment(format!("the clock gives no date: {error}")))
}

/// Turns true at the first Ctrl-C or SIGTERM; the second one ends the process at once (the watcher cleans up then).
fn interruption() -> watch::Receiver<bool> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(EXIT_INTERRUPTED);
            }
            let _ = writeln!(std::io::stderr(), "interrupted: ending the cases that have begun; once more to leave at once");
        }
    });
    receiver
}

/// The binary that watches the run directory and loads libraries: ours, or the one that tests name.
fn harness_binary() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(|error| CliError::environment(format!("could not find the harness's own binary: {error}")))
}

fn environment_record<'a>(environment: &LocalEnvironment, drivers: impl Iterator<Item = &'a Arc<dyn Driver>>) -> EnvironmentRecord {
    let mut drivers: Vec<_> = drivers.map(|driver| driver.info().clone()).collect();
    drivers.sort_by(|one, other| one.name.cmp(&other.name));
    EnvironmentRecord {
        name: environment.name().to_owned(),
        harness: env!("CARGO_PKG_VERSION").to_owned(),
        platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
        real_subjects: environment.real_subjects().to_vec(),
        components: environment.components(),
        drivers,
    }
}

/// The options that a repeated case needs to be the same case.
fn repro_options(args: &RunArgs) -> String {
    let mut options = Vec::new();
    if let Some(manifests) = &args.manifests {
        options.push(format!("--manifests {}", manifests.display()));
    }
    for scenarios in &args.set.scenarios {
        options.push(format!("--scenarios {}", scenarios.display()));
    }
    if args.set.only_given_scenarios {
        options.push("--only-given-scenarios".to_owned());
    }
    for driver in &args.exec_driver {
        options.push(format!("--exec-driver {}={}", driver.name, driver.program.display()));
    }
    options.join(" ")
}

fn reporters(args: &RunArgs, redactor: Redactor) -> Result<Vec<Box<dyn Reporter>>, CliError> {
    let files = FileReports::new(args.report.clone(), redactor.clone()).map_err(|error| CliError::environment(error.to_string()))?;
    Ok(vec![Box::new(Terminal::stderr(redactor)), Box::new(files)])
}

/// Consumes the run's events: folds them, and hands them to every reporter. Gives the summary and what could not be written.
fn report(
    mut events: mpsc::UnboundedReceiver<Event>,
    mut reporters: Vec<Box<dyn Reporter>>,
    mut fold: Fold,
) -> Result<(Summary, Vec<String>), CliError> {
    let mut errors: Vec<String> = Vec::new();
    let mut tell = |event: &Event| {
        for reporter in &mut reporters {
            if let Err(error) = reporter.event(event) {
                let error = error.to_string();
                if !errors.contains(&error) {
                    errors.push(error);
                }
            }
        }
    };
    while let Some(event) = events.blocking_recv() {
        match &event {
            Event::CaseFinished(record) => fold.add(record),
            Event::Problem(problem) => fold.problem(problem.clone()),
            _ => {}
        }
        tell(&event);
    }
    let summary = fold.finish().map_err(|error| CliError::environment(error.to_string()))?;
    tell(&Event::RunFinished(Box::new(summary.clone())));
    Ok((summary, errors))
}

fn hold(args: &RunArgs, exit: Exit) -> bool {
    match args.hold {
        None => false,
        Some(Hold::Always) => true,
        Some(Hold::OnFailure) => matches!(exit, Exit::NotConformant | Exit::Environment),
    }
}

/// Says where the servers are, and waits for Ctrl-C.
async fn hold_servers(
    environment: &LocalEnvironment,
    keys: &BTreeSet<ServerKey>,
    directory: &Path,
    mut interrupted: watch::Receiver<bool>,
) {
    let mut lines = vec![format!("holding the servers until Ctrl-C; credentials are in {}", directory.join("pki").display())];
    for key in keys {
        if let Ok(server) = environment.server(*key).await {
            lines.push(format!("  {key}: {} (log {})", server.address(), server.log_path().display()));
        }
    }
    let _ = writeln!(std::io::stderr(), "{}", lines.join("\n"));
    // An error means that the sender is gone: nothing could end the wait.
    let _ = interrupted.wait_for(|interrupted| *interrupted).await;
}

/// For `claims`. A cache that can't be written makes no run fail.
fn save_last_run(summary: &Summary) {
    let Ok(directory) = cache_directory() else { return };
    if std::fs::create_dir_all(&directory).is_ok()
        && let Ok(text) = serde_json::to_vec(summary)
    {
        let _ = std::fs::write(directory.join(LAST_RUN), text);
    }
}
