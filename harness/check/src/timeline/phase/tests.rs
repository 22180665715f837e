use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use model::case::ConnectPlan;
use model::change::Target;
use model::observation::{ClientObservation, ClientOutcome, Observation, Phases, Refused, SeenCertificate, ServerView, Session};
use model::refusal::{Alert, AuthRefusal, Stage};
use model::wire::{ClientHello, WireConnection, WireEvent, WireTrace};

pub(in super::super) fn connect() -> ConnectPlan {
    ConnectPlan { identity: Some("client".to_owned()), trust: Some("client".to_owned()), ..ConnectPlan::bare("libpq-17") }
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

/// What differs, in the order in which judging names it.
fn judged(expectation: &PhaseExpectation, kind: ClientKind, attempts: &[Attempt], lost: bool) -> Vec<String> {
    judged_as(expectation, &ClientSeen { name: "it", kind, family: Family::Libpq, attempts: attempts.iter().collect(), lost, waits: false })
}

fn judged_as(expectation: &PhaseExpectation, seen: &ClientSeen<'_>) -> Vec<String> {
    let sha256 = |name: &str| (name == "server").then(|| "aa".to_owned());
    let context = PhaseContext { phase: 2, service: Service::Postgres, certificate_sha256: &sha256, says: &[], objection: None };
    let found = judge_phase(expectation, std::slice::from_ref(seen), &context);
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
fn a_held_session_waits_where_its_query_is_under_way_and_nothing_was_answered() {
    let (served, refused) = (served(false), refused(false));
    let seen = |attempts, lost, waits| ClientSeen { name: "it", kind: ClientKind::Held, family: Family::Libpq, attempts, lost, waits };
    let judged = |seen: &ClientSeen<'_>| judged_as(&expectation(ClientExpectation::Waits), seen);
    assert_eq!(judged(&seen(Vec::new(), false, true)), Vec::<String>::new());
    assert_eq!(judged(&seen(Vec::new(), false, false)), ["it: not settled"]);
    assert_eq!(judged(&seen(vec![&served], false, true)), ["it: outcome"], "one answer is one too many");
    assert_eq!(judged(&seen(vec![&served; ENOUGH_HELD], false, false)), ["it: outcome"]);
    assert_eq!(judged(&seen(vec![&refused], true, false)), ["it: outcome"]);
    assert_eq!(judged(&seen(Vec::new(), true, false)), ["it: outcome"], "it was lost before");
    // And who is served does not wait.
    assert_eq!(judged_as(&expectation(ClientExpectation::Ok), &seen(Vec::new(), false, true)), ["it: not settled"]);
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
    let seen = ClientSeen {
        name: "it",
        kind: ClientKind::New,
        family: Family::Libpq,
        attempts: attempts.iter().collect(),
        lost: false,
        waits: false,
    };
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

#[test]
fn a_pool_recovers_only_if_the_connection_that_it_opened_last_was_served() {
    let judged = |attempts: &[Attempt]| judged(&expectation(ClientExpectation::Recovers), ClientKind::Pool, attempts, false);
    assert_eq!(judged(&[refused(true), opened(), served(false), served(false)]), Vec::<String>::new());
    assert_eq!(judged(&[refused(true), opened(), served(false)]), ["it: not settled"], "two are too few");
    assert_eq!(judged(&[opened(), refused(true), served(false), served(false), served(false)]), ["it: not settled"], "it uses what it has");
}

#[test]
fn replication_recovers_with_the_second_change_that_arrives() {
    let change = |attempt: Attempt| Attempt { observation: None, ..attempt };
    let judged = |attempts: &[Attempt]| judged(&expectation(ClientExpectation::Recovers), ClientKind::Replication, attempts, false);
    assert_eq!(judged(&[change(refused(true)), change(served(true)), change(served(true))]), Vec::<String>::new());
    assert_eq!(judged(&[change(served(true)), change(refused(true)), change(served(true))]), ["it: not settled"]);
}

#[test]
fn what_replication_was_refused_with_has_the_text_that_is_expected() {
    let change = |attempt: Attempt| Attempt { observation: None, ..attempt };
    let attempts = vec![change(refused(true)); 2];
    let with = |text: &str| PhaseExpectation { text: Some(text.to_owned()), ..expectation(unknown_ca()) };
    assert_eq!(judged(&with("tlsv1 alert unknown ca"), ClientKind::Replication, &attempts, false), Vec::<String>::new());
    assert_eq!(judged(&with("another text"), ClientKind::Replication, &attempts, false), ["it: text"]);
    // While the server is away, the texts are not those of the refusal that is meant.
    let away = ClientExpectation::Away(vec![Refusal::Alert(Alert::UnknownCa)]);
    let away = PhaseExpectation { text: Some("another text".to_owned()), ..expectation(away) };
    assert_eq!(judged(&away, ClientKind::Replication, &attempts, false), Vec::<String>::new());
    let other = ClientExpectation::Refused(vec![Refusal::Auth(AuthRefusal::NoHbaEntry)]);
    assert_eq!(judged(&expectation(other), ClientKind::Replication, &attempts, false), ["it: refused"]);
}

#[test]
fn the_servers_own_lines_must_have_every_text_that_is_expected() {
    let says =
        [LogLine { severity: "LOG".into(), sqlstate: None, message: "SSL configuration was reloaded".into(), detail: None, peer: None }];
    let judged = |texts: &[&str]| {
        let server_says = texts.iter().map(|text| (*text).to_owned()).collect();
        let expected = PhaseExpectation { clients: Vec::new(), server_says, ..expectation(ClientExpectation::Ok) };
        let context = PhaseContext { phase: 1, service: Service::Postgres, certificate_sha256: &|_| None, says: &says, objection: None };
        judge_phase(&expected, &[], &context)
            .into_iter()
            .map(|mismatch| (mismatch.witness, mismatch.what, mismatch.expected))
            .collect::<Vec<_>>()
    };
    assert_eq!(judged(&["was reloaded"]), []);
    let expected = format!("a line with `not there` in the log of {}", Target::Postgres);
    assert_eq!(judged(&["was reloaded", "not there"]), [(Witness::ServerLog, "server_says".to_owned(), expected)]);
}

#[test]
fn what_a_client_saw_is_said_once_each_in_order() {
    let (served, refused) = (served(true), refused(true));
    let seen = |attempts, lost, waits| ClientSeen { name: "it", kind: ClientKind::New, family: Family::Libpq, attempts, lost, waits };
    let short = |attempts, lost, waits| observed_in_short(&seen(attempts, lost, waits)).join(", ");
    assert_eq!(short(vec![&refused, &served, &refused, &served], false, false), "alert: unknown-ca, ok");
    assert_eq!(short(vec![&served], true, false), "ok, lost");
    assert_eq!(short(Vec::new(), false, true), "waits");
    assert_eq!(short(Vec::new(), false, false), "nothing");
}

#[test]
fn what_was_expected_of_a_client_is_said_in_words() {
    let classes = || vec![Refusal::Alert(Alert::UnknownCa), Refusal::Auth(AuthRefusal::NoHbaEntry)];
    let words = |expected: ClientExpectation| {
        let seen = ClientSeen { name: "it", kind: ClientKind::New, family: Family::Libpq, attempts: Vec::new(), lost: false, waits: false };
        let context = PhaseContext { phase: 0, service: Service::Postgres, certificate_sha256: &|_| None, says: &[], objection: None };
        judge_phase(&expectation(expected), &[seen], &context).remove(0).expected
    };
    assert_eq!(words(ClientExpectation::Ok), "every attempt is served");
    assert_eq!(words(ClientExpectation::Recovers), "attempts are served again");
    let refused = format!("new connections are refused ({} or {})", classes()[0], classes()[1]);
    assert_eq!(words(ClientExpectation::Refused(classes())), refused);
    assert_eq!(words(ClientExpectation::Away(classes())), refused);
}
