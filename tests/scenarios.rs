//! Every scenario as a test: `cargo test --test scenarios [FILTER]`, `-- --list`, `-- --exact NAME`, and nextest.
//!
//! The tests share one run: the first test that begins starts it, it holds the cases of all tests that the filters let through, in the
//! order that is fastest for the servers, and each test waits for its own scenario. It ends with its last case, whatever becomes of the
//! tests. nextest gives every test a process; each then runs its own scenario's cases, and starts what those need.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::sync::{mpsc as events, watch};

use deployment::Manifests;
use expand::overdue;
use load::ScenarioSet;
use model::case::Case;
use model::connect::NAUTOBOT_MOUNT;
use model::outcome::Outcome;
use model::report::CaseRecord;
use os::redact::Redactor;
use os::toolchain::Toolchain;
use report::failure;
use run::context::Limits;
use run::event::Event;
use run::keep::EvidenceOptions;
use run::schedule::ScheduleOptions;
use session::{EnvironmentKind, Session, SessionOptions, check, default_jobs, plan};

/// Failing cases of one scenario that are told in full.
const FAILURES: usize = 10;

/// The test beside the scenarios': a known deviation that nobody has looked at for too long fails the run.
const REVIEW: &str = "deviations/reviewed-in-time";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let planned = match Planned::load() {
        Ok(planned) => planned,
        Err(error) => return broken(&error.to_string()),
    };
    let overdue = planned.overdue();
    let names: Vec<String> = planned.cases.keys().cloned().chain([REVIEW.to_owned()]).collect();
    match Meant::of(&arguments, &names) {
        Meant::Something => {}
        Meant::OtherTargets(filter) => {
            let _ = writeln!(std::io::stderr(), "note: no scenario matches `{filter}`");
        }
        Meant::NothingThere(filter) => {
            return broken(&format!("no scenario matches `{filter}`; these are there:\n  {}", names.join("\n  ")));
        }
    }
    let (run, waiting) = Run::new(planned);
    let run = Arc::new(run);
    let mut trials: Vec<Trial> = waiting
        .into_iter()
        .map(|(scenario, end)| {
            let run = Arc::clone(&run);
            Trial::ignorable_test(scenario, move || run.wait(&end))
        })
        .collect();
    trials.push(Trial::test(REVIEW, move || if overdue.is_empty() { Ok(()) } else { Err(overdue.join("\n").into()) }));
    run.select(trials.iter().filter(|trial| !arguments.is_filtered_out(trial)).map(Trial::name));
    let conclusion = libtest_mimic::run(&arguments, trials);
    run.end();
    conclusion.exit_code()
}

/// As libtest ends where it can't run at all.
fn broken(message: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {message}");
    ExitCode::from(101)
}

/// What a filter is meant for. `cargo test FILTER` hands the filter of a unit test to this target too, and that is no mistake; but the
/// name of a Rust test holds nothing beside letters, digits, `_` and `:`, so one with a slash or a dash can only mean a scenario.
enum Meant<'a> {
    Something,
    OtherTargets(&'a str),
    NothingThere(&'a str),
}

impl<'a> Meant<'a> {
    fn of(arguments: &'a Arguments, names: &[String]) -> Self {
        let Some(filter) = &arguments.filter else { return Self::Something };
        let matches = |name: &String| if arguments.exact { name == filter } else { name.contains(filter.as_str()) };
        if names.iter().any(matches) {
            Self::Something
        } else if filter.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':') {
            Self::OtherTargets(filter)
        } else {
            Self::NothingThere(filter)
        }
    }
}

/// Whatever keeps the run from being made.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// What is there to run.
struct Planned {
    set: ScenarioSet,
    toolchain: Toolchain,
    manifests: Arc<Manifests>,
    /// What a run of everything would plan, by the scenario's id.
    cases: BTreeMap<String, Vec<Arc<Case>>>,
}

fn repository() -> PathBuf {
    // Without `..`, so that places in messages read well.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

impl Planned {
    fn load() -> Result<Self, Error> {
        let lines = |errors: Vec<load::LoadError>| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            lines.join("\n")
        };
        let set = ScenarioSet::load(&[repository().join("scenarios")]).map_err(lines)?;
        let manifests = Manifests::load(&repository().join("kind/deployment"))?;
        check(&set, &manifests).map_err(lines)?;
        let toolchain = Toolchain::find(&Toolchain::default_directory());
        let mut cases: BTreeMap<String, Vec<Arc<Case>>> = BTreeMap::new();
        for case in plan(&set, &toolchain, &[], NAUTOBOT_MOUNT).map_err(lines)? {
            cases.entry(case.scenario.clone()).or_default().push(Arc::new(case));
        }
        Ok(Self { set, toolchain, manifests: Arc::new(manifests), cases })
    }

    fn overdue(&self) -> Vec<String> {
        let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string().parse();
        overdue(&self.set, today.expect("the clock gives a date"))
    }

    fn session_options(&self) -> SessionOptions {
        let cache = std::env::var_os("MTLS_CONFORMANCE_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from);
        SessionOptions {
            environment: EnvironmentKind::Local,
            harness: PathBuf::from(env!("CARGO_BIN_EXE_mtls-conformance")),
            toolchain: self.toolchain.clone(),
            manifests: Arc::clone(&self.manifests),
            credentials: self.set.credentials.clone(),
            cache,
            run_directory: None,
            own_drivers: Vec::new(),
            nautobot_config: None,
            nautobot_mount: NAUTOBOT_MOUNT.to_owned(),
            limits: Limits::default(),
            start_limit: None,
            evidence: Some(EvidenceOptions { directory: repository().join("reports/evidence"), keep_earlier: false }),
            repro_options: String::new(),
            interrupted: watch::channel(false).1,
        }
    }
}

/// What came of one scenario's cases.
#[derive(Default)]
struct Tally {
    ran: usize,
    skipped: BTreeMap<String, usize>,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, record: &CaseRecord, redactor: &Redactor) {
        match &record.outcome {
            Outcome::Skipped(reason) => *self.skipped.entry(reason.to_string()).or_default() += 1,
            Outcome::Pass | Outcome::Deviates { .. } => self.ran += 1,
            Outcome::Fail(_) | Outcome::UnexpectedPass { .. } | Outcome::Errored { .. } | Outcome::TimedOut(_) => {
                self.ran += 1;
                self.failures.push(redactor.text(&failure::block(record)).into_owned());
            }
        }
    }

    fn cases(&self) -> usize {
        self.ran + self.skipped.values().sum::<usize>()
    }

    fn completion(mut self) -> Result<Completion, Failed> {
        if self.failures.is_empty() {
            let reasons: Vec<String> = self.skipped.into_keys().collect();
            return Ok(if self.ran == 0 { Completion::ignored_with(reasons.join("; ")) } else { Completion::Completed });
        }
        let failed = self.failures.len();
        self.failures.sort();
        let mut text =
            format!("{failed} of {} cases failed or errored\n\n{}", self.cases(), self.failures[..failed.min(FAILURES)].join("\n"));
        if failed > FAILURES {
            text.push_str(&format!("\n... and {} more\n", failed - FAILURES));
        }
        Err(text.into())
    }
}

/// The run that all tests share.
struct Run {
    planned: Planned,
    state: Mutex<State>,
}

/// The ends that tests wait for.
type Ends = BTreeMap<String, mpsc::Sender<Tally>>;

enum State {
    /// No test has begun: the tests that will, and the ends of all.
    Waiting(BTreeSet<String>, Ends),
    Running(JoinHandle<Result<(), Error>>),
    /// Why scenarios may be without an end.
    Over(String),
}

impl Run {
    fn new(planned: Planned) -> (Self, BTreeMap<String, mpsc::Receiver<Tally>>) {
        let (mut ends, mut waiting) = (BTreeMap::new(), BTreeMap::new());
        for scenario in planned.cases.keys() {
            let (sender, receiver) = mpsc::channel();
            ends.insert(scenario.clone(), sender);
            waiting.insert(scenario.clone(), receiver);
        }
        (Self { planned, state: Mutex::new(State::Waiting(BTreeSet::new(), ends)) }, waiting)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn select<'a>(&self, names: impl Iterator<Item = &'a str>) {
        if let State::Waiting(selected, _) = &mut *self.state() {
            selected.extend(names.map(str::to_owned));
        }
    }

    /// Waits for a scenario's cases; the first call starts the run.
    fn wait(self: &Arc<Self>, end: &mpsc::Receiver<Tally>) -> Result<Completion, Failed> {
        self.begin();
        match end.recv() {
            Ok(tally) => tally.completion(),
            // The run has let go of its ends, so it is over or about to be.
            Err(_) => {
                Err(self.end().unwrap_or_else(|| "the run ended before this scenario: this is a defect of the harness".to_owned()).into())
            }
        }
    }

    fn begin(self: &Arc<Self>) {
        let mut state = self.state();
        if let State::Waiting(selected, ends) = &mut *state {
            let (selected, ends) = (std::mem::take(selected), std::mem::take(ends));
            let run = Arc::clone(self);
            *state = State::Running(std::thread::spawn(move || run.carry_out(&selected, ends)));
        }
    }

    /// Waits until everything is stopped; why the run failed, if it did.
    fn end(&self) -> Option<String> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Over(String::new())) {
            State::Waiting(..) => None,
            State::Running(thread) => {
                let reason = match thread.join() {
                    Ok(Ok(())) => return None,
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the run panicked, see above".to_owned(),
                };
                *state = State::Over(reason.clone());
                Some(reason)
            }
            State::Over(reason) => {
                *state = State::Over(reason.clone());
                Some(reason).filter(|reason| !reason.is_empty())
            }
        }
    }

    fn carry_out(&self, selected: &BTreeSet<String>, ends: Ends) -> Result<(), Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let cases: Vec<Arc<Case>> =
            self.planned.cases.iter().filter(|(scenario, _)| selected.contains(*scenario)).flat_map(|(_, cases)| cases).cloned().collect();
        runtime.block_on(async {
            let session = Session::start(self.planned.session_options(), &cases).await?;
            let redactor = Redactor::new(session.environment().secrets());
            let (sender, receiver) = events::unbounded_channel();
            let schedule_options = ScheduleOptions { jobs: default_jobs(), fail_fast: false, keep_servers: false };
            let ((), mut problems) = tokio::join!(session.run(cases, schedule_options, sender), self.tell(receiver, ends, &redactor));
            problems.extend(session.close().await);
            if problems.is_empty() { Ok(()) } else { Err(problems.join("\n").into()) }
        })
    }

    /// Hands every scenario its tally as soon as it is complete.
    async fn tell(&self, mut events: events::UnboundedReceiver<Event>, mut ends: Ends, redactor: &Redactor) -> Vec<String> {
        let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
        let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
        let mut problems = Vec::new();
        while let Some(event) = events.recv().await {
            match event {
                Event::CaseFinished(record) => {
                    let tally = tallies.entry(record.scenario.clone()).or_default();
                    tally.add(&record, redactor);
                    if tally.cases() == self.planned.cases.get(&record.scenario).map_or(0, Vec::len)
                        && let (Some(tally), Some(end)) = (tallies.remove(&record.scenario), ends.remove(&record.scenario))
                    {
                        tally.skipped.iter().for_each(|(reason, cases)| *skipped.entry(reason.clone()).or_default() += cases);
                        // Its test may have panicked.
                        let _ = end.send(tally);
                    }
                }
                Event::Problem(problem) => problems.push(problem),
                _ => {}
            }
        }
        for (reason, cases) in skipped {
            // A scenario of which only some cases were skipped is a test that passed: without this nobody would see it.
            let _ = writeln!(std::io::stderr(), "{cases} cases skipped: {reason}");
        }
        problems
    }
}
