//! A set of one scenario, run against a deployment made of nothing (see [`super::fakes`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, watch};

use driver::Driver;
use environment::Environment as _;
use expand::{Catalogue, expand};
use load::ScenarioSet;
use model::case::Case;
use model::connect::NAUTOBOT_MOUNT;
use model::outcome::{ErrorKind, Outcome, OutcomeKind};
use model::report::{CaseRecord, EnvironmentRecord, Summary};
use report::run_result::RunResult;
use run::context::{Limits, RunContext};
use run::event::Event;
use run::fold::Fold;
use run::schedule::{ScheduleOptions, run};

use super::fakes::{DRIVER, FakeDriver, FakeEnvironment, NoCredentials, driver_info};

/// A set with one scenario, and what runs it.
pub(crate) struct World {
    pub(crate) set: ScenarioSet,
    pub(crate) cases: Vec<Arc<Case>>,
    pub(crate) environment: FakeEnvironment,
    pub(crate) drivers: bool,
    pub(crate) limits: Limits,
    pub(crate) schedule_options: ScheduleOptions,
    pub(crate) gate: watch::Sender<bool>,
    pub(crate) interrupt: watch::Sender<bool>,
}

/// What came of a run.
pub(crate) struct Ran {
    pub(crate) records: BTreeMap<String, CaseRecord>,
    pub(crate) summary: Summary,
    pub(crate) result: RunResult,
}

const CLAIMS: &str = "claims:\n  - {id: rule.one, statement: One., document: guide.md, section: Rules, subject: [postgres]}\n";

impl World {
    /// `scenario` is what follows the deployment in the file; `deviations` the whole file.
    pub(crate) fn new(scenario: &str, deviations: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |file: &str, text: &str| std::fs::write(directory.path().join(file), text).expect("writes");
        std::fs::create_dir(directory.path().join("fake")).expect("makes");
        write("claims.yaml", CLAIMS);
        write("fake/case.yaml", &format!("id: fake/case\ntitle: Fake\nclaims: [rule.one]\ndeployment: documented\n{scenario}"));
        if !deviations.is_empty() {
            write("deviations.yaml", deviations);
        }
        let set = ScenarioSet::load(&[directory.path().to_path_buf()]).unwrap_or_else(|errors| panic!("{errors:?}"));
        let catalogue = Catalogue { drivers: vec![driver_info()], postgres: vec![15, 16, 17, 18], mount: NAUTOBOT_MOUNT.to_owned() };
        let cases = expand(&set, &catalogue).unwrap_or_else(|errors| panic!("{errors:?}"));
        Self {
            set,
            cases: cases.into_iter().map(Arc::new).collect(),
            environment: FakeEnvironment::default(),
            drivers: true,
            limits: Limits::default(),
            schedule_options: ScheduleOptions { jobs: 4, fail_fast: false, keep_servers: false },
            gate: watch::Sender::new(false),
            interrupt: watch::Sender::new(false),
        }
    }

    /// One case a user, on PostgreSQL 17, each expecting to be a session in plaintext; see [`super::fakes`].
    pub(crate) fn of_users(users: &str) -> Self {
        let scenario = format!(
            "postgres: [17]\nmatrix:\n  driver: [{DRIVER}]\n  user: [{users}]\nsteps:\n  - connect: {{user: \"${{user}}\", identity: none, trust: none}}\n    \
             expect:\n      - session: {{tls: false, user: \"${{user}}\"}}\n        wire: [connect, authenticated]\n"
        );
        Self::new(&scenario, "")
    }

    pub(crate) async fn run(self) -> Ran {
        self.run_while(|_, _, _| {}).await
    }

    /// Runs, and shows every event to `watcher` with the gate and the interruption.
    pub(crate) async fn run_while(self, mut watcher: impl FnMut(&Event, &watch::Sender<bool>, &watch::Sender<bool>)) -> Ran {
        let driver: Arc<dyn Driver> = Arc::new(FakeDriver::new(self.gate.subscribe()));
        let run_context = Arc::new(RunContext {
            drivers: if self.drivers { HashMap::from([(DRIVER.to_owned(), driver)]) } else { HashMap::new() },
            credentials: Arc::new(NoCredentials),
            networks: self.environment.networks(),
            openssl: None,
            limits: self.limits,
            evidence: None,
            repro_options: String::new(),
        });
        let record = EnvironmentRecord {
            name: "fake".to_owned(),
            harness: String::new(),
            platform: String::new(),
            cpus: 1,
            real_subjects: vec![model::claim::Subject::Postgres],
            components: Vec::new(),
            drivers: Vec::new(),
            networks: self.environment.networks(),
            users: None,
        };
        let planned = self.cases.len();
        let mut fold = Fold::new(&self.set.claims, &self.cases, record, Vec::new(), Instant::now()).expect("a fold");
        let (sender, mut events) = mpsc::unbounded_channel();
        let mut records = BTreeMap::new();
        let interrupted = self.interrupt.subscribe();
        let telling = async {
            while let Some(event) = events.recv().await {
                watcher(&event, &self.gate, &self.interrupt);
                match event {
                    Event::CaseFinished(record) => {
                        fold.add(&record);
                        let id = record.id.clone();
                        assert!(records.insert(id.clone(), *record).is_none(), "{id} ended twice");
                    }
                    Event::Problem(problem) => fold.problem(problem),
                    _ => {}
                }
            }
        };
        tokio::join!(run(self.cases, Arc::new(self.environment), run_context, self.schedule_options, sender, interrupted), telling);
        assert_eq!(records.len(), planned, "every case ends, and once");
        let summary = fold.finish().expect("a summary");
        let result = RunResult::of(&summary, *self.interrupt.borrow());
        Ran { records, summary, result }
    }
}

impl Ran {
    /// The outcome of the only case whose id holds this text.
    pub(crate) fn outcome(&self, part: &str) -> &Outcome {
        let mut found = self.records.iter().filter(|(id, _)| id.contains(part));
        let (Some((_, record)), None) = (found.next(), found.next()) else { panic!("{part}: {:?}", self.records.keys()) };
        &record.outcome
    }

    pub(crate) fn count(&self, kind: OutcomeKind) -> usize {
        self.summary.totals.outcomes[&kind]
    }

    /// The text of an error that must be of this kind.
    pub(crate) fn errored(&self, part: &str, expected: ErrorKind) -> &str {
        match self.outcome(part) {
            Outcome::Errored { kind, text } if *kind == expected => text,
            other => panic!("{part} is not errored with {expected}: {other:?}"),
        }
    }
}
