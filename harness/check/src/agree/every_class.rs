//! What log and wire must show for each way in which a connection can end.

use std::collections::BTreeMap;

use super::*;
use model::observation::{ClientObservation, Phases, Refused, ServerView};
use model::refusal::Alert;
use model::wire::ClientHello;

fn refused(refusal: Refusal) -> ClientOutcome {
    ClientOutcome::Refused(Refused { refusal, stage: None, sqlstate: None, text: String::new() })
}

fn session(tls: bool, server_says: bool) -> ClientOutcome {
    let server_view = Some(ServerView { ssl: server_says, ..ServerView::default() });
    ClientOutcome::Session(Session { tls, version: None, cipher: None, alpn: None, server_certificate: None, server_view })
}

fn line(message: &str, detail: Option<&str>) -> LogLine {
    LogLine { severity: "LOG".into(), sqlstate: None, message: message.into(), detail: detail.map(str::to_owned), peer: None }
}

fn connection(events: &[WireEvent]) -> WireConnection {
    WireConnection { events: events.to_vec(), ..WireConnection::default() }
}

/// The witnesses that disagree where each connection showed these events.
fn against(service: Service, outcome: &ClientOutcome, log: &[&str], connections: Vec<WireConnection>) -> Vec<(Witness, String)> {
    let observation = Observation {
        client: ClientObservation { outcome: outcome.clone(), phases: Phases::default(), settings: BTreeMap::new() },
        server_log: log.iter().map(|message| line(message, None)).collect(),
        wire: Some(WireTrace { connections, error: None }),
    };
    disagreements(0, service, &observation).into_iter().map(|mismatch| (mismatch.witness, mismatch.expected)).collect()
}

fn on_wire(outcome: &ClientOutcome, connections: Vec<WireConnection>) -> Option<String> {
    let trace = WireTrace { connections, error: None };
    wire_disagreement(Service::Postgres, outcome, &trace).map(|(expected, _)| expected)
}

#[test]
fn every_ending_has_the_words_of_its_server() {
    // PostgreSQL: auth.c, postinit.c, be-secure-openssl.c, postgres.c. Redis: tls.c.
    let postgres = [
        (session(true, true), Some("SSL enabled")),
        (session(false, false), Some("connection authorized: user=")),
        (refused(Refusal::Auth(AuthRefusal::HbaReject)), Some("pg_hba.conf rejects connection")),
        (refused(Refusal::Auth(AuthRefusal::NoPassword)), None),
        (refused(Refusal::Ended(EndReason::AdminShutdown)), Some("terminating connection due to administrator command")),
        (refused(Refusal::Ended(EndReason::PostmasterExit)), Some("terminating connection due to unexpected postmaster exit")),
        (refused(Refusal::Ended(EndReason::IdleTimeout)), Some("terminating connection due to idle-session timeout")),
        (refused(Refusal::Verify(VerifyFailure::HostName)), None),
        (refused(Refusal::Verify(VerifyFailure::Expired)), Some("could not accept SSL connection")),
        (refused(Refusal::Alert(Alert::UnknownCa)), Some("could not accept SSL connection")),
        (refused(Refusal::Tls(TlsRefusal::NotOffered)), None),
    ];
    for (outcome, expected) in postgres {
        assert_eq!(log_witness(Service::Postgres, &outcome), expected, "{outcome:?}");
    }
    let redis = [
        (session(true, true), None),
        (refused(Refusal::Alert(Alert::UnknownCa)), Some("Error accepting a client connection")),
        (refused(Refusal::Verify(VerifyFailure::Expired)), Some("Error accepting a client connection")),
        (refused(Refusal::Verify(VerifyFailure::HostName)), None),
        (refused(Refusal::Auth(AuthRefusal::RedisNoAuth)), None),
    ];
    for (outcome, expected) in redis {
        assert_eq!(log_witness(Service::Redis, &outcome), expected, "{outcome:?}");
    }
}

#[test]
fn client_and_server_must_say_the_same_of_tls() {
    let plain = || vec![connection(&[WireEvent::Connect, WireEvent::Authenticated])];
    let log = ["connection authorized: user=app"];
    assert_eq!(against(Service::Postgres, &session(false, false), &log, plain()), []);
    let found = against(Service::Postgres, &session(false, true), &log, plain());
    assert_eq!(found, [(Witness::Server, "pg_stat_ssl.ssl = false, as the client says".to_owned())]);
}

#[test]
fn a_plaintext_session_whose_only_connection_the_log_calls_encrypted_is_a_disagreement() {
    let events = [WireEvent::Connect, WireEvent::Authenticated];
    let log = ["connection authorized: user=app SSL enabled"];
    let found = against(Service::Postgres, &session(false, false), &log, vec![connection(&events)]);
    assert_eq!(found, [(Witness::ServerLog, "a plaintext session".to_owned())]);
    // The lines of an attempt with TLS before it are in the same log.
    let earlier = connection(&[WireEvent::Connect, WireEvent::SslAccepted]);
    assert_eq!(against(Service::Postgres, &session(false, false), &log, vec![earlier, connection(&events)]), []);
}

#[test]
fn the_wire_shows_a_session_as_what_it_is() {
    let tls = || vec![connection(&[WireEvent::Connect, WireEvent::SslAccepted, WireEvent::ServerHello])];
    let plain = || vec![connection(&[WireEvent::Connect, WireEvent::Authenticated])];
    assert_eq!(on_wire(&session(true, true), tls()), None);
    assert_eq!(on_wire(&session(true, true), plain()).as_deref(), Some("a TLS handshake"));
    assert_eq!(on_wire(&session(false, false), plain()), None);
    assert_eq!(on_wire(&session(false, false), tls()).as_deref(), Some("AuthenticationOk in plaintext"));
    let both = vec![connection(&[WireEvent::ServerHello, WireEvent::Authenticated])];
    assert_eq!(on_wire(&session(false, false), both).as_deref(), Some("AuthenticationOk in plaintext"));
    assert_eq!(on_wire(&session(false, false), vec![connection(&[])]).as_deref(), Some("AuthenticationOk in plaintext"));
}

#[test]
fn the_wire_shows_how_far_a_refused_connection_came() {
    let connected = || vec![connection(&[WireEvent::Connect])];
    let not_offered = refused(Refusal::Tls(TlsRefusal::NotOffered));
    assert_eq!(on_wire(&not_offered, connected()).as_deref(), Some("SSLRequest answered with N"));
    assert_eq!(on_wire(&not_offered, vec![connection(&[WireEvent::Connect, WireEvent::SslRefused])]), None);
    let alert = refused(Refusal::Alert(Alert::UnknownCa));
    let greeted = WireConnection { client_hello: Some(ClientHello::default()), ..connection(&[WireEvent::Connect]) };
    assert_eq!(on_wire(&alert, connected()).as_deref(), Some("a ClientHello"));
    assert_eq!(on_wire(&alert, Vec::new()).as_deref(), Some("a ClientHello"));
    assert_eq!(on_wire(&alert, vec![greeted]), None);
    let closed = |stage| refused(Refusal::Closed(stage));
    assert_eq!(on_wire(&closed(Stage::Handshake), Vec::new()).as_deref(), Some("a connection"));
    assert_eq!(on_wire(&closed(Stage::Handshake), connected()), None);
    assert_eq!(on_wire(&closed(Stage::Options), Vec::new()), None);
    assert_eq!(on_wire(&closed(Stage::Options), connected()), None);
}

#[test]
fn a_client_that_refuses_its_own_options_connects_to_nobody() {
    let option = refused(Refusal::Option(model::refusal::OptionRefusal::InvalidValue));
    assert_eq!(on_wire(&option, Vec::new()), None);
    assert_eq!(on_wire(&option, vec![connection(&[WireEvent::Connect])]).as_deref(), Some("no connection at all"));
}

#[test]
fn events_and_lines_are_quoted_as_files_and_servers_write_them() {
    assert_eq!(in_short(&[WireEvent::Connect, WireEvent::SslAccepted]), "[connect, ssl-accepted]");
    assert_eq!(log_in_short(&[]), "no line for this connection");
    let lines = [line("a", None), line("b", Some("first\nsecond"))];
    assert_eq!(log_in_short(&lines), "LOG: a | LOG: b (first)");
}
