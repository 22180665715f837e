//! The refusals of redis-rs, by the alert that its stream met, or by the code of an error reply.

use std::sync::PoisonError;

use redis::{ErrorKind, RedisError};

use crate::tls::{SharedStreamErrors, classify_tls};
use model::causes::with_causes;
use model::observation::Refused;
use model::refusal::{AuthRefusal, Refusal, ServerState, Stage};

pub(super) fn refused(refusal: Refusal, stage: Stage, text: String) -> Refused {
    Refused { refusal, stage: Some(stage), sqlstate: None, text }
}

/// What an error of redis-rs says of the server, at `stage`.
pub(super) fn failure(error: &RedisError, stream_errors: &SharedStreamErrors, stage: Stage) -> Refused {
    let stream_errors = stream_errors.lock().unwrap_or_else(PoisonError::into_inner);
    let text = with_causes(error);
    if let Some(error) = &stream_errors.tls_error {
        // A TLS 1.3 server judges our certificate after we finished: its alert is the first thing it says.
        let stage = if stream_errors.heard { stage } else { Stage::PostHandshake };
        return refused(classify_tls(error, stage), stage, text);
    }
    let refusal = match (error.kind(), error.code()) {
        (_, Some(code)) => classify_code(code, stage),
        (ErrorKind::Io, None) if error.is_timeout() => Refusal::TimedOut(stage),
        (ErrorKind::Io, None) => Refusal::Closed(stage),
        _ => Refusal::Unclassified(stage),
    };
    refused(refusal, stage, text)
}

/// The class of a Redis error code, the first word of an error reply.
fn classify_code(code: &str, stage: Stage) -> Refusal {
    match code {
        "NOAUTH" => Refusal::Auth(AuthRefusal::RedisNoAuth),
        "WRONGPASS" => Refusal::Auth(AuthRefusal::RedisWrongPassword),
        "LOADING" => Refusal::Server(ServerState::StartingUp),
        // In a session it is no refused authentication.
        _ if stage == Stage::Query => Refusal::Unclassified(stage),
        _ => Refusal::Auth(AuthRefusal::Other),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::Value;

    use super::*;
    use crate::tls::shared_stream_errors;
    use model::refusal::{Alert, VerifyFailure};
    use rustls::{AlertDescription, CertificateError, Error};

    /// The error that redis-rs makes of an error reply.
    fn reply(text: &str) -> RedisError {
        let parsed = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
        parsed.and_then(Value::extract_error).expect_err("an error reply")
    }

    fn class(error: &RedisError, stage: Stage) -> Refusal {
        let refused = failure(error, &shared_stream_errors(), stage);
        assert_eq!((refused.stage, refused.sqlstate), (Some(stage), None));
        assert!(!refused.text.is_empty());
        refused.refusal
    }

    // Replies of Redis 7.

    #[test]
    fn an_error_reply_is_named_by_its_code() {
        let at = Stage::Authentication;
        for (text, refusal) in [
            ("NOAUTH Authentication required.", Refusal::Auth(AuthRefusal::RedisNoAuth)),
            ("WRONGPASS invalid username-password pair or user is disabled.", Refusal::Auth(AuthRefusal::RedisWrongPassword)),
            ("LOADING Redis is loading the dataset in memory", Refusal::Server(ServerState::StartingUp)),
            ("ERR max number of clients reached", Refusal::Auth(AuthRefusal::Other)),
        ] {
            assert_eq!(class(&reply(text), at), refusal, "{text}");
        }
    }

    #[test]
    fn in_a_session_another_error_reply_is_no_refused_authentication() {
        let at = Stage::Query;
        assert_eq!(class(&reply("OOM command not allowed when used memory > 'maxmemory'."), at), Refusal::Unclassified(at));
        assert_eq!(class(&reply("NOAUTH Authentication required."), at), Refusal::Auth(AuthRefusal::RedisNoAuth));
    }

    #[test]
    fn an_error_of_the_socket_is_a_close_unless_the_time_was_over() {
        let at = Stage::Handshake;
        let class = |kind: io::ErrorKind| class(&RedisError::from(io::Error::from(kind)), at);
        assert_eq!(class(io::ErrorKind::TimedOut), Refusal::TimedOut(at));
        assert_eq!(class(io::ErrorKind::ConnectionReset), Refusal::Closed(at));
        assert_eq!(class(io::ErrorKind::UnexpectedEof), Refusal::Closed(at));
    }

    #[test]
    fn an_error_of_redis_rs_itself_has_no_class() {
        let error = RedisError::from((ErrorKind::UnexpectedReturnType, "not a pong"));
        assert_eq!(class(&error, Stage::Query), Refusal::Unclassified(Stage::Query));
    }

    #[test]
    fn an_alert_that_the_stream_met_decides_and_comes_after_the_handshake_unless_something_was_heard_before() {
        let alert = || Some(Error::AlertReceived(AlertDescription::UnknownCA));
        let closed = RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        for (heard, stage) in [(false, Stage::PostHandshake), (true, Stage::Query)] {
            let errors = shared_stream_errors();
            {
                let mut errors = errors.lock().expect("nobody panicked");
                (errors.tls_error, errors.heard) = (alert(), heard);
            }
            let refused = failure(&closed, &errors, Stage::Query);
            assert_eq!((refused.refusal, refused.stage), (Refusal::Alert(Alert::UnknownCa), Some(stage)));
        }
        let errors = shared_stream_errors();
        errors.lock().expect("nobody panicked").tls_error = Some(Error::InvalidCertificate(CertificateError::Expired));
        assert_eq!(failure(&closed, &errors, Stage::Query).refusal, Refusal::Verify(VerifyFailure::Expired));
    }
}
