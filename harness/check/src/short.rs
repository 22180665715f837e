//! An observation in a few words, for tables and for the matching of deviations.

use model::observation::{ClientObservation, ClientOutcome, LogLine};

/// A session over TLS, in short.
pub const TLS_SESSION: &str = "tls session";
/// A session without TLS, in short.
pub const PLAINTEXT_SESSION: &str = "plaintext session";

/// What the client saw, in short: `tls session`, `plaintext session`, or the refusal's class such as `alert: unknown-ca`.
#[must_use]
pub fn short_form(observation: &ClientObservation) -> String {
    match &observation.outcome {
        ClientOutcome::Session(session) if session.tls => TLS_SESSION.to_owned(),
        ClientOutcome::Session(_) => PLAINTEXT_SESSION.to_owned(),
        ClientOutcome::Refused(refused) => refused.refusal.to_string(),
    }
}

/// The lines of a log by connection, in the order of their first ones. Those that no connection is known of are together.
#[must_use]
pub fn by_connection(log: &[LogLine]) -> Vec<Vec<&LogLine>> {
    let mut connections: Vec<Vec<&LogLine>> = Vec::new();
    for line in log {
        match connections.iter_mut().find(|lines| lines.iter().any(|other| other.peer == line.peer)) {
            Some(lines) => lines.push(line),
            None => connections.push(vec![line]),
        }
    }
    connections
}

/// Whether two short forms are the same behaviour.
///
/// They are if they are equal, or if both clients refused the server's certificate chain and one of them does not say why: OpenSSL behind
/// libpq says only `certificate verify failed` (`verify: certificate`) where rustls names the reason. A host name that does not match is
/// not that: libpq has a text of its own for it.
#[must_use]
pub fn same_behaviour(one: &str, other: &str) -> bool {
    const UNSAID: &str = "verify: certificate";
    const HOST_NAME: &str = "verify: host-name";
    let chain = |short: &str| short.starts_with("verify: ") && short != HOST_NAME;
    one == other || (one == UNSAID && chain(other)) || (other == UNSAID && chain(one))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use model::observation::{Phases, Refused, Session};
    use model::refusal::{Alert, AuthRefusal, Refusal, Stage, VerifyFailure};

    fn refused(refusal: Refusal) -> ClientObservation {
        ClientObservation {
            outcome: ClientOutcome::Refused(Refused { refusal, stage: None, sqlstate: None, text: "FATAL".to_owned() }),
            phases: Phases::default(),
            settings: BTreeMap::new(),
        }
    }

    fn session(tls: bool) -> ClientObservation {
        ClientObservation {
            outcome: ClientOutcome::Session(Session {
                tls,
                version: None,
                cipher: None,
                alpn: None,
                server_certificate: None,
                server_view: None,
            }),
            phases: Phases::default(),
            settings: BTreeMap::new(),
        }
    }

    #[test]
    fn lines_of_a_log_are_put_together_by_their_connection() {
        let line = |message: &str, port: Option<u16>| LogLine {
            severity: "LOG".to_owned(),
            sqlstate: None,
            message: message.to_owned(),
            detail: None,
            peer: port.map(|port| ([127, 0, 0, 1], port).into()),
        };
        let log = [line("a1", Some(1)), line("b1", Some(2)), line("own", None), line("a2", Some(1)), line("own too", None)];
        let messages: Vec<Vec<&str>> =
            by_connection(&log).into_iter().map(|lines| lines.into_iter().map(|line| line.message.as_str()).collect()).collect();
        assert_eq!(messages, [vec!["a1", "a2"], vec!["b1"], vec!["own", "own too"]]);
    }

    #[test]
    fn an_observation_is_named_by_its_session_or_its_refusal_class() {
        assert_eq!(short_form(&session(true)), "tls session");
        assert_eq!(short_form(&session(false)), "plaintext session");
        assert_eq!(short_form(&refused(Refusal::Alert(Alert::UnknownCa))), "alert: unknown-ca");
        assert_eq!(short_form(&refused(Refusal::Auth(AuthRefusal::NoHbaEntry))), "auth: no-hba-entry");
        assert_eq!(short_form(&refused(Refusal::Closed(Stage::SslRequest))), "closed: ssl-request");
    }

    #[test]
    fn a_chain_refused_without_a_reason_is_the_same_as_one_refused_with_a_reason() {
        let unsaid = short_form(&refused(Refusal::Verify(VerifyFailure::Certificate)));
        let expired = short_form(&refused(Refusal::Verify(VerifyFailure::Expired)));
        let unknown = short_form(&refused(Refusal::Verify(VerifyFailure::UnknownCa)));
        let host = short_form(&refused(Refusal::Verify(VerifyFailure::HostName)));
        assert!(same_behaviour(&unsaid, &expired));
        assert!(same_behaviour(&unknown, &unsaid));
        assert!(!same_behaviour(&expired, &unknown), "two reasons that are said differ");
        assert!(!same_behaviour(&unsaid, &host));
        assert!(!same_behaviour(&unsaid, TLS_SESSION));
        assert!(same_behaviour(TLS_SESSION, TLS_SESSION));
        assert!(!same_behaviour(TLS_SESSION, PLAINTEXT_SESSION));
    }
}
