//! One phase: what each client saw once the changes were done, against what it was to see.

use std::collections::BTreeMap;

use super::Attempt;
use crate::agree::{disagreements, log_has, log_in_short};
use crate::judge::{Context, judge};
use model::case::{Expectation, Expected, SessionExpectation};
use model::driver::Family;
use model::observation::LogLine;
use model::outcome::{Mismatch, Witness};
use model::refusal::Refusal;
use model::server::Service;
use model::timeline::ClientKind;
use model::timeline::plan::{ClientExpectation, PhaseExpectation};

/// Attempts that say enough: few, since each begins only after the changes were done, and what they show does not depend on chance.
const ENOUGH: usize = 5;
/// The same for held sessions.
const ENOUGH_HELD: usize = 3;
/// The same for connections that a pool opens, and for changes to be replicated: each takes its time.
const ENOUGH_SLOW: usize = 2;

/// A client in a phase.
#[derive(Debug, Clone)]
pub struct ClientSeen<'a> {
    /// The name that the scenario gives it.
    pub name: &'a str,
    /// How it uses sessions.
    pub kind: ClientKind,
    /// How its driver's texts read.
    pub family: Family,
    /// The attempts that began once the changes were done and ended before the phase did, in order of their beginnings.
    pub attempts: Vec<&'a Attempt>,
    /// Whether its held session is gone, in this phase or before.
    pub lost: bool,
    /// Whether at the end a query was under way that had been without an answer for far longer than any takes.
    pub waits: bool,
}

/// What judging needs to know beside the clients.
pub struct PhaseContext<'a> {
    /// Which phase, from 0.
    pub phase: usize,
    /// What the server speaks.
    pub service: Service,
    /// SHA-256 of a Certificate's certificate (`NAME` or `NAME@1`), lower-case hex.
    pub certificate_sha256: &'a dyn Fn(&str) -> Option<String>,
    /// Lines of the log since the phase began that belong to no connection.
    pub says: &'a [LogLine],
    /// What the target of a change said against it.
    pub objection: Option<&'a str>,
}

/// Whether a client has shown what it sees now.
#[must_use]
pub fn settled(expected: &ClientExpectation, seen: &ClientSeen<'_>) -> bool {
    let fresh = || seen.attempts.iter().filter(|attempt| attempt.fresh);
    let at_the_end = || seen.attempts.iter().rev().take_while(|attempt| attempt.served()).count();
    match (seen.kind, expected) {
        (ClientKind::Held, ClientExpectation::Lost) => seen.lost,
        (ClientKind::Held, ClientExpectation::Waits) if seen.waits => true,
        (ClientKind::Held, _) => seen.lost || seen.attempts.len() >= ENOUGH_HELD,
        (ClientKind::New, ClientExpectation::Recovers) => at_the_end() >= ENOUGH_HELD,
        (ClientKind::New, _) => seen.attempts.len() >= ENOUGH,
        (ClientKind::Pool, ClientExpectation::Recovers) => {
            at_the_end() >= ENOUGH_HELD && fresh().next_back().is_some_and(|last| last.served())
        }
        (ClientKind::Pool, _) => fresh().count() >= ENOUGH_SLOW,
        (ClientKind::Replication, ClientExpectation::Recovers) => at_the_end() >= ENOUGH_SLOW,
        (ClientKind::Replication, _) => seen.attempts.len() >= ENOUGH_SLOW,
    }
}

/// Every difference between expectation and observation, at most one of a kind for each client; empty if the phase holds.
#[must_use]
pub fn judge_phase(expectation: &PhaseExpectation, clients: &[ClientSeen<'_>], context: &PhaseContext<'_>) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for (name, expected) in &expectation.clients {
        if let Some(seen) = clients.iter().find(|seen| seen.name == name) {
            let of_client = judge_client(expectation, expected, seen, context);
            mismatches.extend(of_client.into_iter().map(|mismatch| Mismatch { what: format!("{name}: {}", mismatch.what), ..mismatch }));
        }
    }
    let mut add = |witness, what: &str, expected: String, observed: String| {
        mismatches.push(Mismatch { step: context.phase, witness, what: what.to_owned(), expected, observed });
    };
    for text in &expectation.server_says {
        if !log_has(context.says, text) {
            add(
                Witness::ServerLog,
                "server_says",
                format!("a line with `{text}` in the log of {}", expectation.on),
                log_in_short(context.says),
            );
        }
    }
    match (&expectation.objection, context.objection) {
        (None, Some(said)) => add(Witness::Server, "objection", "every change is taken".to_owned(), said.to_owned()),
        (Some(texts), None) => {
            add(Witness::Server, "objection", format!("a change is refused: {}", texts.join(", ")), "every change was taken".to_owned());
        }
        (Some(texts), Some(said)) => {
            for text in texts.iter().filter(|text| !said.contains(text.as_str())) {
                add(Witness::Server, "objection", format!("a line with `{text}`"), said.to_owned());
            }
        }
        (None, None) => {}
    }
    mismatches
}

fn judge_client(
    phase: &PhaseExpectation,
    expected: &ClientExpectation,
    seen: &ClientSeen<'_>,
    context: &PhaseContext<'_>,
) -> Vec<Mismatch> {
    let mismatch = |what: &str, expected: String, observed: String| Mismatch {
        step: context.phase,
        witness: Witness::Client,
        what: what.to_owned(),
        expected,
        observed,
    };
    if !settled(expected, seen) {
        let observed = format!("{} in {} attempts", observed_in_short(seen).join(", "), seen.attempts.len());
        return vec![mismatch("not settled", in_words(expected), observed)];
    }
    let one = |expectation: &Expectation, attempt: &Attempt| {
        let Some(observation) = &attempt.observation else {
            // Of streaming replication there is no more to look at than its results.
            let judged = seen.kind == ClientKind::Replication;
            return if judged { Vec::new() } else { vec![mismatch("witnesses", in_words(expected), "no word of any".to_owned())] };
        };
        let judged = Context { step: context.phase, family: seen.family, certificate_sha256: context.certificate_sha256 };
        let mut mismatches = judge(expectation, observation, &judged);
        // Without a wire it is a session that is kept, whose other witnesses are asked at its end.
        if observation.wire.is_some() {
            mismatches.extend(disagreements(context.phase, context.service, observation));
        }
        mismatches
    };
    let first = |expectation: &Expectation, wanted: &dyn Fn(&Attempt) -> bool| {
        seen.attempts
            .iter()
            .filter(|attempt| attempt.fresh && wanted(attempt))
            .map(|attempt| one(expectation, attempt))
            .find(|found| !found.is_empty())
    };
    let failed = || seen.attempts.iter().find_map(|attempt| attempt.result.as_ref().err());
    match expected {
        ClientExpectation::Ok => match failed() {
            Some(refused) => vec![mismatch("outcome", in_words(expected), format!("{} ({})", refused.refusal, refused.text.trim()))],
            // It ended in an earlier phase, or while this one's changes were made.
            None if seen.lost => vec![mismatch("outcome", in_words(expected), "the session was lost before".to_owned())],
            None => first(&session(phase), &|_| true).unwrap_or_default(),
        },
        ClientExpectation::Recovers => first(&session(phase), &Attempt::served).unwrap_or_default(),
        ClientExpectation::Lost => Vec::new(),
        ClientExpectation::Waits if seen.waits && !seen.lost && seen.attempts.is_empty() => Vec::new(),
        ClientExpectation::Waits => vec![mismatch("outcome", in_words(expected), observed_in_short(seen).join(", "))],
        ClientExpectation::Refused(classes) | ClientExpectation::Away(classes) if seen.kind == ClientKind::Replication => {
            let text = phase.text.as_ref().filter(|_| matches!(expected, ClientExpectation::Refused(_)));
            let differs = replication(expected, classes, text, seen);
            differs.map(|(what, expected, observed)| mismatch(what, expected, observed)).into_iter().collect()
        }
        ClientExpectation::Away(classes) => {
            let expectation = refusal(classes);
            first(&expectation, &|_| true).unwrap_or_default()
        }
        ClientExpectation::Refused(classes) => {
            // A session that is used again and breaks off is not what was meant.
            if let Some(lost) = seen.attempts.iter().find(|attempt| !attempt.fresh && !attempt.served()) {
                let text = lost.result.as_ref().err().map(|refused| refused.text.trim().to_owned()).unwrap_or_default();
                return vec![mismatch("session", "sessions that are there go on".to_owned(), text)];
            }
            let expectation = Expectation { text: phase.text.clone(), server_log: phase.server_log.clone(), ..refusal(classes) };
            first(&expectation, &|_| true).unwrap_or_default()
        }
    }
}

/// Streaming replication that is to be refused: the replica's log speaks for it. What differs, as what, expected and observed.
fn replication(
    expected: &ClientExpectation,
    classes: &[Refusal],
    text: Option<&String>,
    seen: &ClientSeen<'_>,
) -> Option<(&'static str, String, String)> {
    let refused = |attempt: &Attempt| attempt.result.as_ref().err().filter(|refused| classes.contains(&refused.refusal)).cloned();
    let refusals: Option<Vec<_>> = seen.attempts.iter().map(|attempt| refused(attempt)).collect();
    let Some(refusals) = refusals else { return Some(("refused", in_words(expected), observed_in_short(seen).join(", "))) };
    let text = text?;
    let other = refusals.iter().find(|refused| !refused.text.contains(text.as_str()))?;
    Some(("text", format!("a message with `{text}`"), other.text.trim().to_owned()))
}

/// A refusal of one of these classes, and nothing more.
fn refusal(classes: &[Refusal]) -> Expectation {
    Expectation {
        expected: Expected::Refused(classes.to_vec()),
        stage: None,
        text: None,
        server_log: Vec::new(),
        wire: None,
        settings: BTreeMap::new(),
    }
}

/// A TLS session, with the certificate that the phase names.
fn session(phase: &PhaseExpectation) -> Expectation {
    let session = SessionExpectation {
        tls: true,
        user: None,
        client_dn: None,
        version: None,
        alpn: None,
        server_certificate: phase.server_certificate.clone(),
    };
    Expectation {
        expected: Expected::Session(session),
        stage: None,
        text: None,
        server_log: Vec::new(),
        wire: None,
        settings: BTreeMap::new(),
    }
}

/// What a client saw, each thing once: `ok`, `lost`, `waits`, `alert: unknown-ca`.
#[must_use]
pub fn observed_in_short(seen: &ClientSeen<'_>) -> Vec<String> {
    let mut observed = Vec::new();
    for attempt in &seen.attempts {
        let short = match &attempt.result {
            Ok(_) => "ok".to_owned(),
            Err(refused) => refused.refusal.to_string(),
        };
        if !observed.contains(&short) {
            observed.push(short);
        }
    }
    if seen.lost {
        observed.push("lost".to_owned());
    }
    if seen.waits {
        observed.push("waits".to_owned());
    }
    if observed.is_empty() {
        observed.push("nothing".to_owned());
    }
    observed
}

fn in_words(expected: &ClientExpectation) -> String {
    match expected {
        ClientExpectation::Ok => "every attempt is served".to_owned(),
        ClientExpectation::Recovers => "attempts are served again".to_owned(),
        ClientExpectation::Lost => "the session is lost".to_owned(),
        ClientExpectation::Waits => "the session's query gets no answer, and the session stays".to_owned(),
        ClientExpectation::Refused(classes) | ClientExpectation::Away(classes) => {
            let names: Vec<String> = classes.iter().map(ToString::to_string).collect();
            format!("new connections are refused ({})", names.join(" or "))
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
