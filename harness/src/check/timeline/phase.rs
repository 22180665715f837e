//! One phase: what each client saw once the changes were done, against what it was to see.

use std::collections::BTreeMap;

use super::Attempt;
use crate::check::agree::{disagreements, log_has, log_in_short};
use crate::check::judge::{Context, judge};
use crate::model::case::{Expectation, Expected, SessionExpectation};
use crate::model::driver::Family;
use crate::model::observation::LogLine;
use crate::model::outcome::{Mismatch, Witness};
use crate::model::refusal::Refusal;
use crate::model::server::Service;
use crate::model::timeline::ClientKind;
use crate::model::timeline::plan::{ClientExpectation, PhaseExpectation};

/// Attempts that say enough: few, since each begins only after the changes were done, and what they show does not depend on chance.
const ENOUGH: usize = 5;
/// The same for held sessions.
const ENOUGH_HELD: usize = 3;
/// The same for connections that a pool opens, and for changes to be replicated: each takes its time.
const ENOUGH_SLOW: usize = 2;

/// A client in a phase.
#[derive(Debug, Clone)]
pub struct ClientSeen<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it uses sessions.
    pub kind: ClientKind,
    /// How its driver's texts read.
    pub family: Family,
    /// The attempts that began once the changes were done and ended before the phase did, in order of their beginnings.
    pub attempts: Vec<&'a Attempt>,
    /// Whether its held session is gone, in this phase or before.
    pub lost: bool,
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

/// What a client saw, each thing once: `ok`, `lost`, `alert: unknown-ca`.
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
        ClientExpectation::Refused(classes) | ClientExpectation::Away(classes) => {
            let names: Vec<String> = classes.iter().map(ToString::to_string).collect();
            format!("new connections are refused ({})", names.join(" or "))
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::model::case::{ConnectPlan, PasswordChoice};
    use crate::model::change::Target;
    use crate::model::connect::RedisTls;
    use crate::model::observation::{ClientObservation, ClientOutcome, Observation, Phases, Refused, SeenCertificate, ServerView, Session};
    use crate::model::refusal::{Alert, AuthRefusal, Stage};
    use crate::model::wire::{ClientHello, WireConnection, WireEvent, WireTrace};

    pub(in super::super) fn connect() -> ConnectPlan {
        ConnectPlan {
            driver: "libpq-17".to_owned(),
            sslmode: None,
            sslnegotiation: None,
            tls: RedisTls::VerifyFull,
            identity: Some("client".to_owned()),
            trust: Some("client".to_owned()),
            host: None,
            user: None,
            database: None,
            password: PasswordChoice::None,
            source: None,
            unix: false,
            min_tls: None,
            max_tls: None,
            alpn: None,
            replication: false,
            gateway: false,
            env: BTreeMap::new(),
        }
    }

    fn attempt(fresh: bool, outcome: ClientOutcome, log: &str) -> Attempt {
        let result = match &outcome {
            ClientOutcome::Session(_) => Ok(Duration::from_millis(3)),
            ClientOutcome::Refused(refused) => Err(refused.clone()),
        };
        let line = LogLine { severity: "LOG".into(), sqlstate: None, message: log.into(), detail: None, peer: None };
        let connection = WireConnection {
            events: vec![WireEvent::Connect, WireEvent::SslAccepted, WireEvent::ServerHello],
            client_hello: Some(ClientHello::default()),
            ..WireConnection::default()
        };
        let observation = Observation {
            client: ClientObservation { outcome, phases: Phases::default(), settings: BTreeMap::new() },
            server_log: vec![line],
            wire: Some(WireTrace { connections: vec![connection], ..WireTrace::default() }),
        };
        let at = Duration::from_millis(100);
        Attempt { from: at, to: at + Duration::from_millis(3), fresh, result, observation: fresh.then_some(observation) }
    }

    fn served(fresh: bool) -> Attempt {
        let session = Session {
            tls: true,
            version: None,
            cipher: None,
            alpn: None,
            server_certificate: Some(SeenCertificate { sha256: "aa".to_owned() }),
            server_view: Some(ServerView { ssl: true, ..ServerView::default() }),
        };
        attempt(fresh, ClientOutcome::Session(session), "connection authorized: user=app database=app SSL enabled (protocol=TLSv1.3)")
    }

    /// A session that is kept: its client's word alone.
    fn opened() -> Attempt {
        let mut attempt = served(true);
        attempt.observation = attempt.observation.map(|seen| Observation { server_log: Vec::new(), wire: None, ..seen });
        attempt
    }

    fn refused(fresh: bool) -> Attempt {
        let text = "connection to server failed: SSL error: tlsv1 alert unknown ca\n".to_owned();
        let refused = Refused { refusal: Refusal::Alert(Alert::UnknownCa), stage: Some(Stage::PostHandshake), sqlstate: None, text };
        attempt(fresh, ClientOutcome::Refused(refused), "could not accept SSL connection: certificate verify failed")
    }

    fn expectation(client: ClientExpectation) -> PhaseExpectation {
        PhaseExpectation {
            clients: vec![("it".to_owned(), client)],
            text: None,
            server_log: Vec::new(),
            server_says: Vec::new(),
            on: Target::Postgres,
            objection: None,
            server_certificate: None,
        }
    }

    /// The mismatches' `what`.
    fn judged(expectation: &PhaseExpectation, kind: ClientKind, attempts: &[Attempt], lost: bool) -> Vec<String> {
        let seen = ClientSeen { name: "it", kind, family: Family::Libpq, attempts: attempts.iter().collect(), lost };
        let sha256 = |name: &str| (name == "server").then(|| "aa".to_owned());
        let context = PhaseContext { phase: 2, service: Service::Postgres, certificate_sha256: &sha256, says: &[], objection: None };
        let found = judge_phase(expectation, &[seen], &context);
        assert!(found.iter().all(|mismatch| mismatch.step == 2));
        found.into_iter().map(|mismatch| mismatch.what).collect()
    }

    fn unknown_ca() -> ClientExpectation {
        ClientExpectation::Refused(vec![Refusal::Alert(Alert::UnknownCa)])
    }

    #[test]
    fn one_refused_connection_among_many_is_an_outage() {
        let mut attempts = vec![served(true); 5];
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::New, &attempts, false), Vec::<String>::new());
        attempts[3] = refused(true);
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::New, &attempts, false), ["it: outcome"]);
    }

    #[test]
    fn one_served_connection_among_refused_ones_is_a_mismatch() {
        let mut attempts = vec![refused(true); 5];
        assert_eq!(judged(&expectation(unknown_ca()), ClientKind::New, &attempts, false), Vec::<String>::new());
        attempts[4] = served(true);
        assert_eq!(judged(&expectation(unknown_ca()), ClientKind::New, &attempts, false), ["it: outcome"]);
        let other = ClientExpectation::Refused(vec![Refusal::Auth(AuthRefusal::NoHbaEntry)]);
        assert_eq!(judged(&expectation(other), ClientKind::New, &vec![refused(true); 5], false), ["it: refused"]);
    }

    #[test]
    fn a_pool_that_is_refused_may_use_the_sessions_that_it_has() {
        let attempts = [served(false), served(false), refused(true), refused(true)];
        assert_eq!(judged(&expectation(unknown_ca()), ClientKind::Pool, &attempts, false), Vec::<String>::new());
        let broken = [served(false), refused(false), refused(true), refused(true)];
        assert_eq!(judged(&expectation(unknown_ca()), ClientKind::Pool, &broken, false), ["it: session"]);
    }

    #[test]
    fn while_something_is_away_sessions_may_end_but_none_is_opened() {
        let away = || ClientExpectation::Away(vec![Refusal::Alert(Alert::UnknownCa)]);
        let ended = [refused(false), refused(true), refused(true)];
        assert_eq!(judged(&expectation(away()), ClientKind::Pool, &ended, false), Vec::<String>::new());
        let opened = [refused(false), refused(true), served(true)];
        assert_eq!(judged(&expectation(away()), ClientKind::Pool, &opened, false), ["it: outcome"]);
    }

    #[test]
    fn a_pool_that_opens_sessions_is_not_refused_and_its_sessions_certificates_count() {
        let attempts = [opened(), served(false), opened(), served(false)];
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::Pool, &attempts, false), Vec::<String>::new());
        assert_eq!(judged(&expectation(unknown_ca()), ClientKind::Pool, &attempts, false), ["it: outcome"]);
        let away = ClientExpectation::Away(vec![Refusal::Alert(Alert::UnknownCa)]);
        assert_eq!(judged(&expectation(away), ClientKind::Pool, &attempts, false), ["it: outcome"]);
        let mut presented = expectation(ClientExpectation::Ok);
        presented.server_certificate = Some("server@1".to_owned());
        assert_eq!(judged(&presented, ClientKind::Pool, &attempts, false), ["it: server_certificate"]);
        let unseen = attempts.map(|attempt| Attempt { observation: None, ..attempt });
        assert_eq!(judged(&expectation(unknown_ca()), ClientKind::Pool, &unseen, false), ["it: witnesses"]);
    }

    #[test]
    fn replication_that_goes_on_is_neither_refused_nor_away() {
        let change = |attempt: Attempt| Attempt { observation: None, ..attempt };
        let (arrived, missing) = (vec![change(served(true)); 2], vec![change(refused(true)); 2]);
        let away = || ClientExpectation::Away(vec![Refusal::Alert(Alert::UnknownCa)]);
        for expected in [unknown_ca(), away()] {
            assert_eq!(judged(&expectation(expected.clone()), ClientKind::Replication, &missing, false), Vec::<String>::new());
            assert_eq!(judged(&expectation(expected), ClientKind::Replication, &arrived, false), ["it: refused"]);
        }
    }

    #[test]
    fn a_client_that_has_shown_too_little_is_not_settled_and_never_passes() {
        let few = vec![served(true); ENOUGH - 1];
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::New, &few, false), ["it: not settled"]);
        let reused = vec![served(false); 20];
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::Pool, &reused, false), ["it: not settled"]);
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::Held, &[], false), ["it: not settled"]);
        assert_eq!(judged(&expectation(ClientExpectation::Lost), ClientKind::Held, &vec![served(false); 9], false), ["it: not settled"]);
    }

    #[test]
    fn a_held_session_that_is_lost_passes_only_where_it_is_to_be_lost() {
        let attempts = [served(false), refused(false)];
        assert_eq!(judged(&expectation(ClientExpectation::Lost), ClientKind::Held, &attempts, true), Vec::<String>::new());
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::Held, &attempts, true), ["it: outcome"]);
        // While changes are made no attempt counts.
        assert_eq!(judged(&expectation(ClientExpectation::Lost), ClientKind::Held, &[], true), Vec::<String>::new());
        assert_eq!(judged(&expectation(ClientExpectation::Ok), ClientKind::Held, &[], true), ["it: outcome"]);
    }

    #[test]
    fn a_client_recovers_only_where_its_last_attempts_are_served() {
        let back = [refused(true), served(true), refused(true), served(true), served(true), served(true)];
        assert_eq!(judged(&expectation(ClientExpectation::Recovers), ClientKind::New, &back, false), Vec::<String>::new());
        assert_eq!(judged(&expectation(ClientExpectation::Recovers), ClientKind::New, &back[..5], false), ["it: not settled"]);
    }

    #[test]
    fn text_log_and_certificate_are_asserted() {
        let attempts = vec![refused(true); 5];
        let mut expected = expectation(unknown_ca());
        expected.text = Some("another text".to_owned());
        expected.server_log = vec!["another line".to_owned()];
        assert_eq!(judged(&expected, ClientKind::New, &attempts, false), ["it: text", "it: server_log"]);
        let mut presented = expectation(ClientExpectation::Ok);
        presented.server_certificate = Some("server".to_owned());
        assert_eq!(judged(&presented, ClientKind::New, &vec![served(true); 5], false), Vec::<String>::new());
        presented.server_certificate = Some("server@1".to_owned());
        assert_eq!(judged(&presented, ClientKind::New, &vec![served(true); 5], false), ["it: server_certificate"]);
    }

    #[test]
    fn a_change_that_its_target_refuses_fails_unless_that_is_expected() {
        let attempts = vec![served(true); 5];
        let seen =
            ClientSeen { name: "it", kind: ClientKind::New, family: Family::Libpq, attempts: attempts.iter().collect(), lost: false };
        let judged = |objection: Option<Vec<String>>, said: Option<&str>| {
            let expected = PhaseExpectation { objection, ..expectation(ClientExpectation::Ok) };
            let context = PhaseContext { phase: 0, service: Service::Postgres, certificate_sha256: &|_| None, says: &[], objection: said };
            judge_phase(&expected, std::slice::from_ref(&seen), &context).len()
        };
        let said = Some("LOG: SSL configuration was not reloaded");
        assert_eq!((judged(None, None), judged(None, said)), (0, 1));
        assert_eq!(judged(Some(vec!["SSL configuration was not reloaded".to_owned()]), said), 0);
        assert_eq!(judged(Some(vec!["another objection".to_owned()]), said), 1);
        assert_eq!(judged(Some(Vec::new()), None), 1, "an objection that does not come");
    }
}
