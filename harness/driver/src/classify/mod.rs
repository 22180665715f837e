//! From a client's own words to the named class of its failure.
//!
//! Only texts that were seen are known; any other is [`Refusal::Unclassified`], never a guess. The whole text always stays beside the class.

pub mod libpq;
mod openssl;
#[cfg(test)]
mod proptests;
pub mod redis_py;
pub mod server;

use crate::protocol::Failure;
use model::driver::Family;
use model::observation::Refused;
use model::refusal::{Refusal, Stage, TlsRefusal};

/// The class of a failure that a client of this family told.
#[must_use]
pub fn refused(family: Family, failure: &Failure) -> Refused {
    let class = match family {
        Family::Libpq => libpq::class(failure),
        Family::RedisPy => redis_py::class(failure),
        // These classify their own failures.
        Family::Rustls | Family::RedisRs | Family::Other => None,
    };
    let refusal = class.unwrap_or_else(|| Refusal::Unclassified(stage_of(failure)));
    let text = match &failure.detail {
        Some(detail) => format!("{}\n(left unread by the client: {detail})", failure.text),
        None => failure.text.clone(),
    };
    Refused { refusal, stage: refined(refusal, failure.stage), sqlstate: failure.sqlstate.clone(), text }
}

/// A request whose time was over. A client that can't tell how far it had come leaves the class open: it is part of the class.
#[must_use]
pub fn timed_out(failure: &Failure) -> Refused {
    let (refusal, says) = match failure.stage {
        Some(stage) => (Refusal::TimedOut(stage), "nothing came within the time limit"),
        None => {
            (Refusal::Unclassified(stage_of(failure)), "nothing came within the time limit; this client can't tell how far it had come")
        }
    };
    let text = if failure.text.is_empty() { says.to_owned() } else { failure.text.clone() };
    Refused { refusal, stage: failure.stage, sqlstate: None, text }
}

/// The stage that a class carries: the client's, or where it can't tell, the first in which a connection can fail.
fn stage_of(failure: &Failure) -> Stage {
    failure.stage.unwrap_or(Stage::Connect)
}

/// What a class tells of the stage goes before what the client could tell: after a TLS handshake it can't tell a refused client certificate
/// from a refused startup packet until it has read the answer.
fn refined(refusal: Refusal, stage: Option<Stage>) -> Option<Stage> {
    match refusal {
        Refusal::Option(_) | Refusal::Config(_) => Some(Stage::Options),
        Refusal::Auth(_) => Some(Stage::Authentication),
        // Redis says so to a command.
        Refusal::Server(_) | Refusal::Ended(_) if stage != Some(Stage::Query) => Some(Stage::Authentication),
        Refusal::Tls(TlsRefusal::NotOffered) => Some(Stage::SslRequest),
        Refusal::Closed(Stage::Connect) => Some(Stage::Connect),
        _ => stage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::refusal::{Alert, AuthRefusal, EndReason, ServerState};

    #[test]
    fn a_family_that_classifies_for_itself_gets_no_guess() {
        let failure = Failure { text: "tlsv1 alert unknown ca".to_owned(), stage: Some(Stage::Handshake), ..Failure::default() };
        assert_eq!(refused(Family::Other, &failure).refusal, Refusal::Unclassified(Stage::Handshake));
    }

    #[test]
    fn a_servers_fatal_moves_the_stage_from_post_handshake_to_authentication() {
        let text = "connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  connection requires a valid client certificate\n";
        let failure = Failure { text: text.to_owned(), stage: Some(Stage::PostHandshake), ..Failure::default() };
        let refused = refused(Family::Libpq, &failure);
        assert_eq!(refused.refusal, Refusal::Auth(AuthRefusal::ClientCertificateRequired));
        assert_eq!(refused.stage, Some(Stage::Authentication));
        assert_eq!(refused.text, text);
    }

    #[test]
    fn a_server_that_takes_no_sessions_says_so_at_authentication_and_one_that_ends_a_session_at_a_query() {
        let told = |text: &str, stage| {
            let failure = Failure { text: text.to_owned(), stage, ..Failure::default() };
            let refused = refused(Family::Libpq, &failure);
            (refused.refusal, refused.stage)
        };
        let starting = "connection to server at \"127.0.0.1\", port 55999 failed: FATAL:  the database system is starting up\n";
        let expected = (Refusal::Server(ServerState::StartingUp), Some(Stage::Authentication));
        assert_eq!(told(starting, Some(Stage::PostHandshake)), expected);
        assert_eq!(told(starting, None), expected, "psycopg2 tells no stage");
        let terminated = "FATAL:  terminating connection due to administrator command\nSSL connection has been closed unexpectedly\n";
        let expected = Refusal::Ended(EndReason::AdminShutdown);
        assert_eq!(told(terminated, Some(Stage::Query)), (expected, Some(Stage::Query)));
        assert_eq!(told(terminated, Some(Stage::PostHandshake)), (expected, Some(Stage::Authentication)));
    }

    #[test]
    fn what_the_client_left_unread_is_shown_beside_its_text() {
        let failure = Failure {
            text: "Error 8 while writing to socket. EOF occurred in violation of protocol (_ssl.c:2427).".to_owned(),
            stage: Some(Stage::PostHandshake),
            detail: Some("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca (_ssl.c:2580)".to_owned()),
            ..Failure::default()
        };
        let refused = refused(Family::RedisPy, &failure);
        assert_eq!(refused.refusal, Refusal::Alert(Alert::UnknownCa));
        assert!(refused.text.starts_with(&failure.text) && refused.text.contains("tlsv1 alert unknown ca"), "{}", refused.text);
    }

    #[test]
    fn a_class_that_comes_at_one_stage_only_moves_the_stage_there() {
        use model::refusal::{ConfigRefusal, OptionRefusal};
        let at = Some(Stage::Query);
        assert_eq!(refined(Refusal::Option(OptionRefusal::InvalidValue), at), Some(Stage::Options));
        assert_eq!(refined(Refusal::Config(ConfigRefusal::Other), at), Some(Stage::Options));
        assert_eq!(refined(Refusal::Auth(AuthRefusal::Password), at), Some(Stage::Authentication));
        assert_eq!(refined(Refusal::Tls(TlsRefusal::NotOffered), at), Some(Stage::SslRequest));
        assert_eq!(refined(Refusal::Closed(Stage::Connect), at), Some(Stage::Connect));
        assert_eq!(refined(Refusal::Closed(Stage::Handshake), at), at);
        assert_eq!(refined(Refusal::Tls(TlsRefusal::NotTls), at), at);
        assert_eq!(refined(Refusal::Alert(Alert::UnknownCa), None), None);
    }

    #[test]
    fn a_timeout_keeps_its_stage_and_says_something() {
        let refused = timed_out(&Failure { stage: Some(Stage::SslRequest), ..Failure::default() });
        assert_eq!(refused.refusal, Refusal::TimedOut(Stage::SslRequest));
        assert!(!refused.text.is_empty());
    }

    #[test]
    fn a_timeout_without_a_stage_has_no_class() {
        let refused = timed_out(&Failure::default());
        assert!(matches!(refused.refusal, Refusal::Unclassified(_)));
        assert!(refused.text.contains("can't tell"));
    }
}
