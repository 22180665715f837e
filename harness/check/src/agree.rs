//! The three witnesses must agree with each other, whatever a scenario expects.

use model::observation::{ClientOutcome, LogLine, Observation, Session};
use model::outcome::{Mismatch, Witness};
use model::refusal::{AuthRefusal, EndReason, Refusal, ServerState, Stage, TlsRefusal, VerifyFailure};
use model::server::Service;
use model::text::name_of;
use model::wire::{WireConnection, WireEvent, WireTrace};

/// What the server's log must say about a connection that ended like this; `None` where servers log nothing of their own.
///
/// PostgreSQL: `log_connections` and the messages of `auth.c`, `hba.c`, `be-secure-openssl.c`. Redis: `tls.c`, at `verbose`.
#[must_use]
pub fn log_witness(service: Service, outcome: &ClientOutcome) -> Option<&'static str> {
    match (service, outcome) {
        (Service::Postgres, ClientOutcome::Session(session)) if session.tls => Some("SSL enabled"),
        (Service::Postgres, ClientOutcome::Session(_)) => Some("connection authorized: user="),
        (Service::Postgres, ClientOutcome::Refused(refused)) => match refused.refusal {
            Refusal::Auth(auth) => match auth {
                AuthRefusal::NoHbaEntry => Some("no pg_hba.conf entry"),
                AuthRefusal::HbaReject => Some("pg_hba.conf rejects connection"),
                AuthRefusal::ClientCertificateRequired => Some("connection requires a valid client certificate"),
                AuthRefusal::CertificateUser => Some("certificate authentication failed for user"),
                AuthRefusal::NoRootStore => Some("client certificates can only be checked if a root certificate store is available"),
                AuthRefusal::Password => Some("password authentication failed for user"),
                AuthRefusal::Peer => Some("Peer authentication failed for user"),
                AuthRefusal::NoRole | AuthRefusal::NoDatabase => Some("does not exist"),
                // The client gave up by itself, or the class says nothing of the text.
                AuthRefusal::NoPassword | AuthRefusal::RedisNoAuth | AuthRefusal::RedisWrongPassword | AuthRefusal::Other => None,
            },
            Refusal::Server(state) => Some(match state {
                ServerState::StartingUp => "the database system is starting up",
                ServerState::ShuttingDown => "the database system is shutting down",
                ServerState::InRecovery => "the database system is in recovery mode",
                ServerState::NotAccepting => "the database system is not yet accepting connections",
            }),
            Refusal::Ended(EndReason::AdminShutdown) => Some("terminating connection due to administrator command"),
            Refusal::Ended(EndReason::PostmasterExit) => Some("terminating connection due to unexpected postmaster exit"),
            Refusal::Ended(EndReason::IdleTimeout) => Some("terminating connection due to idle-session timeout"),
            // libpq compares names after the handshake, and just leaves.
            Refusal::Verify(VerifyFailure::HostName) => None,
            Refusal::Alert(_) | Refusal::Verify(_) => Some("could not accept SSL connection"),
            _ => None,
        },
        (Service::Redis, ClientOutcome::Refused(refused)) if is_refused_by_tls(refused.refusal) => {
            Some("Error accepting a client connection")
        }
        (Service::Redis, _) => None,
    }
}

fn is_refused_by_tls(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Alert(_) | Refusal::Verify(_)) && refusal != Refusal::Verify(VerifyFailure::HostName)
}

/// Whether the log lines hold the witness text.
#[must_use]
pub fn log_has(lines: &[LogLine], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// Every disagreement between the witnesses.
#[must_use]
pub fn disagreements(step: usize, service: Service, observation: &Observation) -> Vec<Mismatch> {
    let mut found = Vec::new();
    let mut add = |witness, what: &str, expected: String, observed: String| {
        found.push(Mismatch { step, witness, what: what.to_owned(), expected, observed });
    };
    let outcome = &observation.client.outcome;
    // Log lines are found by the client's port: over a unix socket there is none.
    if observation.wire.is_some()
        && let Some(text) = log_witness(service, outcome)
        && !log_has(&observation.server_log, text)
    {
        add(Witness::ServerLog, "agreement", format!("a line with `{text}` for this connection"), log_in_short(&observation.server_log));
    }
    if let (Service::Postgres, ClientOutcome::Session(session)) = (service, outcome) {
        match &session.server_view {
            // A WAL sender takes no SQL: there the server's log speaks for itself.
            None if log_has(&observation.server_log, "replication connection authorized: user=") => {}
            None => add(Witness::Server, "agreement", "a row of pg_stat_ssl".to_owned(), "none".to_owned()),
            Some(view) if view.ssl != session.tls => {
                add(
                    Witness::Server,
                    "agreement",
                    format!("pg_stat_ssl.ssl = {}, as the client says", session.tls),
                    format!("ssl = {}", view.ssl),
                );
            }
            Some(_) => {}
        }
        // A client of `sslmode=prefer` or `allow` may have tried TLS in a connection before the one that became the session: then the log
        // rightly tells of both.
        if !session.tls
            && log_has(&observation.server_log, "SSL enabled")
            && observation.wire.as_ref().is_some_and(|wire| wire.connections.len() == 1)
        {
            add(Witness::ServerLog, "agreement", "a plaintext session".to_owned(), log_in_short(&observation.server_log));
        }
    }
    if let Some(wire) = &observation.wire
        && let Some((expected, observed)) = wire_disagreement(service, outcome, wire)
    {
        add(Witness::Wire, "agreement", expected, observed);
    }
    found
}

fn wire_disagreement(service: Service, outcome: &ClientOutcome, wire: &WireTrace) -> Option<(String, String)> {
    // A client may connect twice, with TLS and then without: what it reports is the end of the last one.
    let last = wire.connections.last();
    let has = |event| last.is_some_and(|connection: &WireConnection| connection.events.contains(&event));
    let seen = || in_short(&wire.events());
    match outcome {
        ClientOutcome::Session(session) => session_on_wire(session, &has).map(|expected| (expected, seen())),
        ClientOutcome::Refused(refused) => match refused.refusal {
            Refusal::Option(_) | Refusal::Config(_) if !wire.connections.is_empty() => Some(("no connection at all".to_owned(), seen())),
            Refusal::Tls(TlsRefusal::NotOffered) if !has(WireEvent::SslRefused) => Some(("SSLRequest answered with N".to_owned(), seen())),
            Refusal::Auth(_) | Refusal::Server(_)
                if service == Service::Postgres
                    && refused.refusal != Refusal::Auth(AuthRefusal::NoPassword)
                    && !has(WireEvent::ServerHello)
                    && !has(WireEvent::AuthRefused) =>
            {
                Some(("an ErrorResponse in plaintext, or TLS".to_owned(), seen()))
            }
            Refusal::Alert(_) | Refusal::Verify(_) if last.is_none_or(|connection| connection.client_hello.is_none()) => {
                Some(("a ClientHello".to_owned(), seen()))
            }
            Refusal::Closed(stage) | Refusal::TimedOut(stage) if stage != Stage::Options && wire.connections.is_empty() => {
                Some(("a connection".to_owned(), seen()))
            }
            _ => None,
        },
    }
}

fn session_on_wire(session: &Session, has: &dyn Fn(WireEvent) -> bool) -> Option<String> {
    if session.tls {
        (!has(WireEvent::ServerHello)).then(|| "a TLS handshake".to_owned())
    } else {
        (has(WireEvent::ServerHello) || !has(WireEvent::Authenticated)).then(|| "AuthenticationOk in plaintext".to_owned())
    }
}

/// Wire events as they stand in a scenario file.
#[must_use]
pub fn in_short(events: &[WireEvent]) -> String {
    let names: Vec<String> = events.iter().map(name_of).collect();
    format!("[{}]", names.join(", "))
}

/// The messages of log lines, joined.
#[must_use]
pub fn log_in_short(lines: &[LogLine]) -> String {
    if lines.is_empty() {
        return "no line for this connection".to_owned();
    }
    let messages: Vec<String> = lines
        .iter()
        .map(|line| match &line.detail {
            Some(detail) => format!("{}: {} ({})", line.severity, line.message, detail.lines().next().unwrap_or_default()),
            None => format!("{}: {}", line.severity, line.message),
        })
        .collect();
    messages.join(" | ")
}

#[cfg(test)]
mod every_class;
#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use model::observation::{ClientObservation, Phases, Refused};

    #[test]
    fn a_session_without_a_server_view_is_believed_only_where_the_log_tells_of_streaming_replication() {
        let session = Session { tls: true, version: None, cipher: None, alpn: None, server_certificate: None, server_view: None };
        let observed = |message: &str| Observation {
            client: ClientObservation {
                outcome: ClientOutcome::Session(session.clone()),
                phases: Phases::default(),
                settings: BTreeMap::new(),
            },
            server_log: vec![LogLine { severity: "LOG".into(), sqlstate: None, message: message.into(), detail: None, peer: None }],
            wire: None,
        };
        let replication = "replication connection authorized: user=streaming_replica application_name=mtls-conformance SSL enabled \
            (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)";
        assert_eq!(disagreements(0, Service::Postgres, &observed(replication)), []);
        let ordinary =
            "connection authorized: user=app database=app SSL enabled (protocol=TLSv1.3, cipher=TLS_AES_256_GCM_SHA384, bits=256)";
        let found = disagreements(0, Service::Postgres, &observed(ordinary));
        assert_eq!(found.iter().map(|mismatch| mismatch.witness).collect::<Vec<_>>(), [Witness::Server]);
    }

    #[test]
    fn a_server_that_takes_no_sessions_says_so_in_its_log_and_on_the_wire() {
        let refused = Refused {
            refusal: Refusal::Server(ServerState::StartingUp),
            stage: Some(Stage::Authentication),
            sqlstate: Some("57P03".to_owned()),
            text: "FATAL:  the database system is starting up".to_owned(),
        };
        let observed = |message: &str, event| Observation {
            client: ClientObservation {
                outcome: ClientOutcome::Refused(refused.clone()),
                phases: Phases::default(),
                settings: BTreeMap::new(),
            },
            server_log: vec![LogLine { severity: "FATAL".into(), sqlstate: None, message: message.into(), detail: None, peer: None }],
            wire: Some(WireTrace { connections: vec![WireConnection { events: vec![event], ..WireConnection::default() }], error: None }),
        };
        let witnesses = |observation: &Observation| -> Vec<Witness> {
            disagreements(0, Service::Postgres, observation).iter().map(|mismatch| mismatch.witness).collect()
        };
        assert_eq!(witnesses(&observed("the database system is starting up", WireEvent::AuthRefused)), []);
        assert_eq!(witnesses(&observed("the database system is starting up", WireEvent::ServerHello)), []);
        let other = observed("the database system is shutting down", WireEvent::SslRefused);
        assert_eq!(witnesses(&other), [Witness::ServerLog, Witness::Wire]);
    }
}
