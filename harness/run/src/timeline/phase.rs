//! One phase: its changes are made, its clients watched, and what they saw is judged.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::super::not_run::{CaseError, NotRun};
use super::attempt_log::ClientAttempts;
use super::context::TimelineContext;
use check::agree::log_has;
use check::timeline::{ClientSeen, PhaseContext, judge_phase, milliseconds, observed_in_short, settled};
use environment::EnvironmentError;
use model::case::{AppliedDeviation, Expected};
use model::change::{Change, Target};
use model::observation::LogLine;
use model::outcome::Mismatch;
use model::timeline::plan::{ClientExpectation, PhaseExpectation, PhasePlan};
use model::timeline::record::PhaseRecord;

/// A phase that is over. It is judged when the clients have ended: of its last connections, wire and log speak a little later.
pub(super) struct EndedPhase {
    from: Duration,
    /// When its changes were done.
    changed: Duration,
    to: Duration,
    /// Changes that were not taken, with what their targets said.
    objections: Vec<(String, String)>,
    /// The lines of the log that belong to no connection.
    says: Vec<LogLine>,
    /// SHA-256 by name of the certificate that new sessions had to be shown, and of all that were issued for the same Certificate so far. It
    /// may be issued again later.
    certificates: BTreeMap<String, String>,
}

/// How a phase was judged.
pub(super) struct Judged {
    pub(super) record: PhaseRecord,
    pub(super) mismatches: Vec<Mismatch>,
    /// Against the deviation's signature; `None` without one.
    pub(super) deviation: Option<Vec<Mismatch>>,
}

/// How far a timeline has come.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// The phase, from 0.
    phase: usize,
    step: Step,
}

/// What a phase consists of, in this order.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The change of that index is made.
    Change(usize),
    /// Clients go on until each has shown what it sees, since that time.
    Settle(Duration),
    /// The server's log is read until it says what it must.
    Log,
}

impl Default for Step {
    fn default() -> Self {
        Self::Change(0)
    }
}

impl TimelineContext {
    /// All phases in order; those that are over are in `ended`, also where this future is dropped.
    pub(super) async fn phases(&self, ended: &mut Vec<EndedPhase>, progress: &mut Progress) -> Result<(), NotRun> {
        for (index, phase) in self.plan.phases.iter().enumerate() {
            *progress = Progress { phase: index, step: Step::default() };
            ended.push(self.phase(index, phase, &mut progress.step).await?);
        }
        Ok(())
    }

    /// In words, for a timeline that did not end in time.
    pub(super) fn describe(&self, progress: &Progress) -> String {
        let Some(phase) = self.plan.phases.get(progress.phase) else { return String::new() };
        let doing = match progress.step {
            Step::Change(index) => match phase.changes.get(index) {
                Some(change) => format!("`{change}` was not done"),
                None => "it had just begun".to_owned(),
            },
            Step::Settle(changed) => {
                let unsettled = self.unsettled(&phase.expectation, changed);
                format!("these clients had not shown what they see: {}", unsettled.join(", "))
            }
            Step::Log => format!("the log of {} was still read", phase.expectation.on),
        };
        format!("in phase {} of {}, `{}`, {doing}", progress.phase + 1, self.plan.phases.len(), phase.title)
    }

    /// The names of the clients that have not shown yet what they see since `changed`.
    fn unsettled(&self, expectation: &PhaseExpectation, changed: Duration) -> Vec<String> {
        let is_settled = |seen: &ClientAttempts<'_>| {
            expectation.clients.iter().any(|(name, expected)| *name == seen.client.name && settled(expected, &seen.as_seen()))
        };
        self.seen(changed, None).iter().filter(|seen| !is_settled(seen)).map(|seen| seen.client.name.clone()).collect()
    }

    /// Makes the changes, and waits until every client has shown what it sees.
    async fn phase(&self, index: usize, phase: &PhasePlan, step: &mut Step) -> Result<EndedPhase, NotRun> {
        let from = self.attempt_log.now();
        let expectation = &phase.expectation;
        let watched = self.installation.server(expectation.on).map(|server| (server.log_mark(), server));
        let mut objections = Vec::new();
        for (index, change) in phase.changes.iter().enumerate() {
            *step = Step::Change(index);
            let applied = self.change(change).await.map_err(|source| CaseError::Change {
                phase: phase.title.clone(),
                change: change.to_string(),
                source,
            })?;
            if let Some(said) = applied {
                objections.push((change.to_string(), said));
            }
        }
        self.phase.store(index, Ordering::Relaxed);
        let changed = self.attempt_log.now();
        *step = Step::Settle(changed);
        let limit = self.run_context.limits.phase;
        let settle = self.attempt_log.wait_until(|| self.unsettled(expectation, changed).is_empty());
        // What has not settled by then is told by judging.
        let _ = tokio::time::timeout(limit, settle).await;
        let to = self.attempt_log.now();
        if let Some(not_run) = self.attempt_log.not_run() {
            return Err(not_run);
        }
        *step = Step::Log;
        let says = match &watched {
            Some((mark, server)) => {
                let enough = |lines: &[LogLine]| expectation.server_says.iter().all(|text| log_has(lines, text));
                server.says_since(*mark, &enough, self.run_context.limits.log).await
            }
            None if expectation.server_says.is_empty() => Vec::new(),
            None => return Err(CaseError::NoLog { phase: phase.title.clone(), target: expectation.on }.into()),
        };
        let certificates = expectation.server_certificate.as_deref().map(|name| self.issued(name)).unwrap_or_default();
        Ok(EndedPhase { from, changed, to, objections, says, certificates })
    }

    /// SHA-256 of a certificate (`NAME` or `NAME@2`), and of every one that was issued for the same Certificate.
    fn issued(&self, name: &str) -> BTreeMap<String, String> {
        let certificate = name.split_once('@').map_or(name, |(certificate, _)| certificate);
        let known = |name: String| self.installation.certificate_sha256(&name).map(|sha256| (name, sha256));
        let all = (1..).map_while(|number| known(format!("{certificate}@{number}")));
        all.chain(known(name.to_owned())).collect()
    }

    pub(super) fn judge(&self, index: usize, phase: &PhasePlan, passed: &EndedPhase, deviation: Option<&AppliedDeviation>) -> Judged {
        let EndedPhase { from, changed, to, .. } = *passed;
        let expectation = &phase.expectation;
        let owned = self.seen(changed, Some(to));
        let seen: Vec<ClientSeen<'_>> = owned.iter().map(ClientAttempts::as_seen).collect();
        let sha256 = |name: &str| passed.certificates.get(name).cloned();
        // Judged without the changes' names: those are no words of a target.
        let in_lines = |line: &dyn Fn(&(String, String)) -> String| {
            (!passed.objections.is_empty()).then(|| passed.objections.iter().map(line).collect::<Vec<_>>().join("\n"))
        };
        let objection = in_lines(&|(_, said)| said.clone());
        let context = PhaseContext {
            phase: index,
            service: self.service,
            certificate_sha256: &sha256,
            says: &passed.says,
            objection: objection.as_deref(),
        };
        let mismatches = judge_phase(expectation, &seen, &context);
        let deviation = deviation.map(|deviation| judge_phase(&as_deviation(expectation, deviation, &mismatches), &seen, &context));
        let record = PhaseRecord {
            title: phase.title.clone(),
            from_ms: milliseconds(from),
            changed_ms: Some(milliseconds(changed)),
            to_ms: Some(milliseconds(to)),
            changes: phase.changes.iter().map(ToString::to_string).collect(),
            expected: serde_json::to_value(expectation).unwrap_or_default(),
            objection: in_lines(&|(change, said)| format!("{change}: {said}")),
            observed: seen.iter().map(|seen| (seen.name.to_owned(), observed_in_short(seen))).collect(),
        };
        Judged { record, mismatches, deviation }
    }

    /// Makes one change; the objection of its target.
    async fn change(&self, change: &Change<String>) -> Result<Option<String>, EnvironmentError> {
        let _files = match change {
            Change::Sync(Target::Client | Target::Site) => Some(self.files.write().await),
            _ => None,
        };
        Ok(self.installation.apply(change).await?.objection)
    }
}

/// The expectation with the deviation's refusal for every client that did not see what it was to see.
fn as_deviation(expectation: &PhaseExpectation, deviation: &AppliedDeviation, mismatches: &[Mismatch]) -> PhaseExpectation {
    let mut expectation = expectation.clone();
    if let Expected::Refused(classes) = &deviation.observed.expected {
        for (name, expected) in &mut expectation.clients {
            let prefix = format!("{name}: ");
            if mismatches.iter().any(|mismatch| mismatch.what.starts_with(&prefix)) {
                *expected = ClientExpectation::Refused(classes.clone());
                expectation.text.clone_from(&deviation.observed.text);
                expectation.server_log.clone_from(&deviation.observed.server_log);
            }
        }
    }
    expectation
}
