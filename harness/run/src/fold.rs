//! A run's events folded into its summary. Memory grows with claims, situations and groups, hardly with cases.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use check::divergence::Divergence;
use check::ledger::{Evidence, Ledger, Refuting, count};
use check::timeline::Outages;
use latency::{Latencies, LatencyError};
use model::case::{AppliedDeviation, Case};
use model::claim::Claim;
use model::outcome::{Outcome, OutcomeKind};
use model::report::{CaseRecord, EnvironmentRecord, SCHEMA_VERSION, Summary, Totals};

/// Takes the events of one run, and gives its summary.
pub struct Fold {
    ledger: Ledger,
    latencies: Latencies,
    divergence: Divergence,
    outages: Outages,
    deviations: HashMap<String, Arc<AppliedDeviation>>,
    outcomes: BTreeMap<OutcomeKind, usize>,
    cases: usize,
    connections: u64,
    problems: Vec<String>,
    left_behind: Vec<String>,
    warnings: Vec<String>,
    slow_cases: Vec<String>,
    /// When the timelines began.
    timelines: Option<Instant>,
    started: Instant,
    started_at: String,
    command: Vec<String>,
    environment: EnvironmentRecord,
}

impl Fold {
    /// An empty fold. `command` is what was asked for.
    ///
    /// # Errors
    /// [`LatencyError`] if no histogram can be made.
    pub fn new(
        claims: &[Claim],
        cases: &[Arc<Case>],
        environment: EnvironmentRecord,
        command: Vec<String>,
        started: Instant,
    ) -> Result<Self, LatencyError> {
        let deviations =
            cases.iter().filter_map(|case| case.deviation.as_ref()).map(|deviation| (deviation.id.clone(), Arc::clone(deviation)));
        Ok(Self {
            ledger: Ledger::new(claims, &environment.name, &environment.real_subjects),
            latencies: Latencies::new()?,
            divergence: Divergence::new(),
            outages: Outages::default(),
            deviations: deviations.collect(),
            outcomes: OutcomeKind::ALL.into_iter().map(|kind| (kind, 0)).collect(),
            cases: 0,
            connections: 0,
            problems: Vec::new(),
            left_behind: Vec::new(),
            warnings: Vec::new(),
            slow_cases: Vec::new(),
            timelines: None,
            started,
            started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            command,
            environment,
        })
    }

    /// When the run began: RFC 3339, UTC.
    #[must_use]
    pub fn started_at(&self) -> &str {
        &self.started_at
    }

    /// Takes a case that has ended, in whatever way.
    pub fn add(&mut self, record: &CaseRecord) {
        self.cases += 1;
        self.connections += u64::from(record.connections);
        *self.outcomes.entry(record.outcome.kind()).or_default() += 1;
        let deviation = match &record.outcome {
            Outcome::Deviates { deviation } => self.deviations.get(deviation),
            _ => None,
        };
        let evidence = Evidence {
            case: &record.id,
            deployment: &record.deployment,
            claims: &record.claims,
            outcome: &record.outcome,
            deviation: deviation.map(|deviation| Refuting { claims: &deviation.refutes, observed: &deviation.summary }),
        };
        if let Err(error) = self.ledger.add(&evidence) {
            self.problems.push(error.to_string());
        }
        self.divergence.add(record);
        self.outages.add(record);
        if record.timeline.is_some() {
            self.slow_cases.push(record.id.clone());
        }
        if let (Some(client), Some(phases)) = (&record.client, &record.phases) {
            self.latencies.record(&client.driver, &client.mode, &client.negotiation, phases);
        }
    }

    /// From now on timelines run, and nothing else.
    pub fn timelines_begin(&mut self) {
        self.timelines = Some(Instant::now());
    }

    /// Takes something of the input that the run says nothing about.
    pub fn warning(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Takes a problem that belongs to no case.
    pub fn problem(&mut self, problem: String) {
        self.problems.push(problem);
    }

    /// Takes something that the run made and could not remove.
    pub fn left_behind(&mut self, left: String) {
        self.left_behind.push(left);
    }

    /// The summary so far.
    ///
    /// # Errors
    /// [`LatencyError`] if a histogram can't be encoded.
    pub fn finish(mut self) -> Result<Summary, LatencyError> {
        let claims = self.ledger.finish();
        self.problems.sort();
        self.left_behind.sort();
        self.slow_cases.sort();
        Ok(Summary {
            schema_version: SCHEMA_VERSION,
            started_at: self.started_at,
            command: self.command,
            environment: self.environment,
            totals: Totals {
                cases: self.cases,
                outcomes: self.outcomes,
                claims: count(&claims),
                connections: self.connections,
                compared_situations: self.divergence.compared(),
                slow_cases: self.slow_cases,
                wall_seconds: self.started.elapsed().as_secs_f64(),
                timeline_seconds: self.timelines.map_or(0.0, |begun| begun.elapsed().as_secs_f64()),
                peak_memory_bytes: peak_memory_bytes(),
            },
            warnings: self.warnings,
            problems: self.problems,
            left_behind: self.left_behind,
            claims,
            divergence: self.divergence.finish(),
            latency: self.latencies.finish()?,
            outages: self.outages.finish(),
        })
    }
}

/// Peak resident memory of this process; 0 where the system doesn't tell.
fn peak_memory_bytes() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    // ru_maxrss is in KiB on Linux.
    usage.ok().and_then(|usage| u64::try_from(usage.max_rss()).ok()).unwrap_or_default() * 1024
}
