//! The refusals of redis-rs, by the alert that its stream met, or by the code of an error reply.

use std::sync::PoisonError;

use redis::{ErrorKind, RedisError};

use crate::tls::{SharedStreamErrors, classify_tls, error_chain};
use model::observation::Refused;
use model::refusal::{AuthRefusal, Refusal, ServerState, Stage};

pub(super) fn refused(refusal: Refusal, stage: Stage, text: String) -> Refused {
    Refused { refusal, stage: Some(stage), sqlstate: None, text }
}

/// What an error of redis-rs says of the server, at `stage`.
pub(super) fn failure(error: &RedisError, stream_errors: &SharedStreamErrors, stage: Stage) -> Refused {
    let stream_errors = stream_errors.lock().unwrap_or_else(PoisonError::into_inner);
    let text = error_chain(error);
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
