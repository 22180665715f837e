//! `run`: plans, wires environment, drivers and reporters together, and folds the events into an exit code.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use super::args::{EnvironmentName, RunArgs};
use super::error::CliError;
use super::hold::{self, Failed, FirstFailures};
use super::home::{LAST_RUN, cache_directory, home, scenario_set, toolchain_directory};
use super::select::selected;
use super::{images, own_programs};
use crate::exit::Exit;
use deployment::Manifests;
use driver::exec::check_nautobot_config;
use expand::overdue;
use load::ScenarioSet;
use model::case::Case;
use model::connect::NAUTOBOT_MOUNT;
use model::network::{NetworkName, Source};
use model::report::Summary;
use model::server::ServerKey;
use os::redact::Redactor;
use os::shell::in_shell;
use os::toolchain::{NAUTOBOT_DRIVERS, Toolchain};
use os::tree;
use report::run_result::RunResult;
use report::{FileReports, ReportTarget, Terminal};
use run::context::Limits;
use run::event::{Event, Reporter};
use run::fold::Fold;
use run::keep::EvidenceOptions;
use run::schedule::ScheduleOptions;
use session::{self, EnvironmentKind, Session, SessionOptions};

pub(super) fn run(args: &RunArgs) -> Result<Exit, CliError> {
    let started = Instant::now();
    let set = scenario_set(&args.set)?;
    let toolchain = Toolchain::find(&toolchain_directory(&args.places));
    let cases = plan(args, &set, &toolchain)?;
    ReportTarget::check_all(&args.report)?;
    let manifests = match &args.manifests {
        Some(directory) => directory.clone(),
        None => home()?.join("kind/deployment"),
    };
    let mut manifests = Manifests::load(&manifests)?;
    manifests.alias(&args.alias)?;
    manifests.name_networks(&args.network)?;
    let manifests = Arc::new(manifests);
    session::check(&set, &manifests)?;
    // Settings that can't be followed are refused before anything starts, as everywhere.
    images::images(&args.images)?;
    own_programs::check(&args.exec_driver, std::env::var_os("PATH").as_deref())?;
    if let Some(config) = &args.nautobot_config {
        check_config(config, &toolchain)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(carry_out(args, &set, toolchain, cases, manifests, started))
}

/// Whether a `nautobot_config.py` can be read as Python.
fn check_config(config: &Path, toolchain: &Toolchain) -> Result<(), CliError> {
    // Without the clients that load it, only that it is there can be told: their cases are skipped.
    std::fs::metadata(config).map_err(|source| CliError::Unreadable { path: config.to_path_buf(), source })?;
    match NAUTOBOT_DRIVERS.iter().find_map(|driver| toolchain.python(driver)) {
        Some(build) => Ok(check_nautobot_config(build, config)?),
        None => Ok(()),
    }
}

/// The cases that are meant, with what can't run here marked.
fn plan(args: &RunArgs, set: &ScenarioSet, toolchain: &Toolchain) -> Result<Vec<Arc<Case>>, CliError> {
    let cases = selected(&args.select, session::plan(set, toolchain, &args.exec_driver, &args.nautobot_mount)?)?;
    let pods_are_named = args.network.iter().any(|given| given.network == NetworkName::Pods);
    let at_their_source = |mut case: Case| {
        if pods_are_named {
            case.come_from(Source::Network(NetworkName::Pods));
        }
        Arc::new(case)
    };
    let cases: Vec<Arc<Case>> = cases.into_iter().map(at_their_source).collect();
    Ok(std::iter::repeat_n(cases, args.repeat.get()).flatten().collect())
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
    let options = SessionOptions {
        environment: environment(args)?,
        harness: harness_binary()?,
        toolchain,
        manifests: Arc::clone(&manifests),
        credentials: set.credentials.clone(),
        cache: cache_directory(&args.cache)?,
        run_directory: args.run_dir.clone(),
        own_drivers: args.exec_driver.clone(),
        nautobot_config: args.nautobot_config.clone(),
        nautobot_mount: args.nautobot_mount.clone(),
        limits: args.timeout.map_or_else(Limits::default, Limits::within),
        start_limit: Some(args.start_timeout),
        evidence: Some(EvidenceOptions { directory: args.evidence.clone(), keep_earlier: args.keep_evidence }),
        repro_options: repro_options(args),
        interrupted: interrupted.clone(),
    };
    let session = Session::start(options, &cases)
        .await
        .map_err(|error| if *interrupted.borrow() { CliError::Interrupted(Box::new(error)) } else { CliError::Session(Box::new(error)) })?;
    for unfit in session.unfit_places() {
        let _ = writeln!(std::io::stderr(), "note: {unfit}, too little for this run: its directory is {}", session.directory().display());
    }
    if let Some(error) = session.earlier_evidence() {
        let _ = writeln!(std::io::stderr(), "note: evidence of an earlier run is still there: {error}");
    }
    let record = session.record();
    let redactor = Redactor::new(session.environment().secrets());
    let fold = Fold::new(&set.claims, &cases, record.clone(), std::env::args().collect(), started)?;
    let (events, received) = mpsc::unbounded_channel();
    let begun = Event::RunStarted { environment: Box::new(record), planned: cases.len(), started_at: fold.started_at().to_owned() };
    let _ = events.send(begun);
    for line in session.unseen_lines(&manifests, &cases) {
        let _ = events.send(Event::Warning(line.to_string()));
    }
    for problem in overdue(set, today()?) {
        let _ = events.send(Event::Problem(problem));
    }
    let mut reporters = reporters(args, redactor)?;
    let (panic_after, asked) = PanicAfter::new(args.panic_after);
    reporters.push(Box::new(panic_after));
    let failed = Failed::default();
    if args.hold.is_some() {
        reporters.push(Box::new(FirstFailures::of(&cases, &failed)));
    }
    let reporting = std::thread::spawn(move || report(received, reporters, fold));
    let jobs = args.jobs.map_or_else(session::default_jobs, NonZeroUsize::get);
    let schedule_options = ScheduleOptions { jobs, fail_fast: args.fail_fast, keep_servers: args.hold.is_some() };
    let keys: BTreeSet<ServerKey> = cases.iter().filter(|case| case.skip.is_none()).map(|case| case.key).collect();
    tokio::select! {
        () = session.run(cases, schedule_options, events.clone()) => {}
        true = async { asked.await.is_ok() } => panic!("asked for by --panic-after"),
    }
    // What is left behind belongs into the report, if nobody wants to keep the servers.
    let held = if args.hold.is_some() {
        Some(session)
    } else {
        for left in session.close().await {
            let _ = events.send(Event::LeftBehind(left));
        }
        None
    };
    drop(events);
    let reported = tokio::task::spawn_blocking(move || reporting.join()).await;
    let outcome = match reported {
        Ok(Ok(outcome)) => outcome,
        _ => Err(CliError::ReportersPanicked),
    };
    let interrupted_now = *interrupted.borrow();
    let exit = outcome.as_ref().map(|(summary, errors)| exit_of(summary, errors, interrupted_now));
    let mut left = Vec::new();
    if let Some(session) = held {
        if exit.as_ref().is_ok_and(|exit| hold::is_asked_for(args.hold, *exit)) {
            hold::hold(&session, &keys, &failed, interrupted.clone()).await;
        }
        left = session.close().await;
    }
    let (summary, mut errors) = outcome?;
    errors.extend(left);
    save_last_run(args, &summary);
    let exit = exit_of(&summary, &errors, interrupted_now);
    if errors.is_empty() { Ok(exit) } else { Err(CliError::AfterRun { errors, exit }) }
}

/// Says when `--panic-after` asks for its panic.
struct PanicAfter {
    cases: usize,
    ask: Option<oneshot::Sender<()>>,
}

impl PanicAfter {
    fn new(cases: Option<NonZeroUsize>) -> (Self, oneshot::Receiver<()>) {
        let (ask, asked) = oneshot::channel();
        (Self { cases: cases.map_or(usize::MAX, NonZeroUsize::get), ask: Some(ask) }, asked)
    }
}

impl Reporter for PanicAfter {
    fn event(&mut self, event: &Event) -> std::io::Result<()> {
        if let Event::CaseFinished(_) = event {
            self.cases -= 1;
            if self.cases == 0
                && let Some(ask) = self.ask.take()
            {
                // Nobody listens where the run is over.
                let _ = ask.send(());
            }
        }
        Ok(())
    }
}

fn exit_of(summary: &Summary, errors: &[String], interrupted: bool) -> Exit {
    match RunResult::of(summary, interrupted) {
        RunResult::Interrupted => Exit::Interrupted,
        RunResult::NotConformant => Exit::NotConformant,
        RunResult::Errored => Exit::Environment,
        RunResult::NothingRan if errors.is_empty() => Exit::NothingRan,
        RunResult::Conformant if errors.is_empty() => Exit::Conformant,
        RunResult::NothingRan | RunResult::Conformant => Exit::Environment,
    }
}

fn environment(args: &RunArgs) -> Result<EnvironmentKind, CliError> {
    match args.environment {
        EnvironmentName::Local => Ok(EnvironmentKind::Local),
        #[cfg(feature = "container")]
        EnvironmentName::Container => Ok(EnvironmentKind::Container(images::images(&args.images)?)),
    }
}

/// The date in UTC.
fn today() -> Result<jiff::civil::Date, CliError> {
    let text = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    text.parse().map_err(CliError::Clock)
}

/// Turns true at the first Ctrl-C, SIGTERM or SIGHUP (the terminal is closed); the second one ends the process at once (the watcher cleans up
/// then). Under nohup(1) SIGHUP stays ignored.
fn interruption() -> watch::Receiver<bool> {
    use tokio::signal::unix::{SignalKind, signal};
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
        let hangup = if ignores_hangup() { None } else { signal(SignalKind::hangup()).ok() };
        let mut hangup = hangup.map(Box::new);
        let mut hung_up = async || match &mut hangup {
            Some(hangup) => hangup.recv().await,
            None => std::future::pending().await,
        };
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hung_up() => {}
            }
            if sender.send_replace(true) {
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            let _ = writeln!(std::io::stderr(), "interrupted: ending the cases that have begun; once more to leave at once");
        }
    });
    receiver
}

/// Whether this process was started with SIGHUP ignored: the mask is in hex (proc_pid_status(5)), and the lowest bit is that of signal 1.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// The binary that watches the run directory and loads libraries: ours, or the one that tests name.
fn harness_binary() -> Result<PathBuf, CliError> {
    std::env::current_exe().map_err(CliError::OwnBinary)
}

/// An option and its value, for a shell.
fn option(name: &str, value: &dyn fmt::Display) -> String {
    format!("{name} {}", in_shell(&value.to_string()))
}

/// The options that a repeated case needs to be the same case, for a shell.
fn repro_options(args: &RunArgs) -> String {
    let mut options = Vec::new();
    #[cfg(feature = "container")]
    if let EnvironmentName::Container = args.environment {
        options.push(option("--environment", &"container"));
    }
    if let Some(manifests) = &args.manifests {
        options.push(option("--manifests", &manifests.display()));
    }
    for alias in &args.alias {
        options.push(option("--alias", alias));
    }
    for network in &args.network {
        options.push(option("--network", network));
    }
    for scenarios in &args.set.scenarios {
        options.push(option("--scenarios", &scenarios.display()));
    }
    if args.set.only_given_scenarios {
        options.push("--only-given-scenarios".to_owned());
    }
    if let Some(config) = &args.nautobot_config {
        options.push(option("--nautobot-config", &config.display()));
    }
    if args.nautobot_mount != NAUTOBOT_MOUNT {
        options.push(option("--nautobot-mount", &args.nautobot_mount));
    }
    if let Some(timeout) = args.timeout {
        options.push(option("--timeout", &timeout.as_secs_f64()));
    }
    for driver in &args.exec_driver {
        options.push(option("--exec-driver", driver));
    }
    options.extend(images::options(&args.images));
    options.join(" ")
}

fn reporters(args: &RunArgs, redactor: Redactor) -> Result<Vec<Box<dyn Reporter>>, CliError> {
    let files = FileReports::new(args.report.clone(), redactor.clone()).map_err(CliError::Reports)?;
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
            Event::TimelinesStarted { planned: _ } => fold.timelines_begin(),
            Event::Warning(warning) => fold.warning(warning.clone()),
            Event::Problem(problem) => fold.problem(problem.clone()),
            Event::LeftBehind(left) => fold.left_behind(left.clone()),
            _ => {}
        }
        tell(&event);
    }
    let summary = fold.finish()?;
    tell(&Event::RunFinished(Box::new(summary.clone())));
    Ok((summary, errors))
}

/// For `claims`. A cache that can't be written makes no run fail.
fn save_last_run(args: &RunArgs, summary: &Summary) {
    let Ok(directory) = cache_directory(&args.cache) else { return };
    // A summary is always JSON.
    let text = serde_json::to_vec(summary).unwrap_or_default();
    let file = directory.join(LAST_RUN);
    if let Err(error) = tree::make_private_directories(&directory).and_then(|()| tree::replace(&file, &text, 0o600, None)) {
        let _ = writeln!(
            std::io::stderr(),
            "note: {} could not be written: {error}; `claims` will not show this run (--cache DIR or MTLS_CONFORMANCE_CACHE names another folder)",
            file.display()
        );
    }
}
