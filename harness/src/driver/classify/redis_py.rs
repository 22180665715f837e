//! Messages of redis-py (5 to 8) and of Python's `ssl` module beneath it.

use crate::driver::exec::protocol::{Failure, File};
use crate::model::refusal::{AuthRefusal, FileRefusal, Refusal, Stage, VerifyFailure};

use super::openssl;

/// The class of a failure; `None` if the text is not known.
#[must_use]
pub fn class(failure: &Failure) -> Option<Refusal> {
    let text = failure.text.as_str();
    file(failure)
        .map(Refusal::File)
        .or_else(|| verification(text).map(Refusal::Verify))
        .or_else(|| openssl::alert(text).map(Refusal::Alert))
        .or_else(|| authentication(text).map(Refusal::Auth))
        .or_else(|| openssl::own(text))
        .or_else(|| silence(text, failure.stage))
}

/// Python names no file in any of these messages: the client tells which one it was.
fn file(failure: &Failure) -> Option<FileRefusal> {
    let text = failure.text.as_str();
    let file = failure.file?;
    if text.contains("KEY_VALUES_MISMATCH") || text.contains("KEY_TYPE_MISMATCH") {
        return Some(FileRefusal::KeyMismatch);
    }
    let missing = text.contains("[Errno 2]");
    Some(match file {
        File::Root if missing => FileRefusal::RootMissing,
        File::Root => FileRefusal::RootUnusable,
        File::Certificate if missing => FileRefusal::CertificateMissing,
        File::Certificate => FileRefusal::CertificateUnusable,
        File::Key if missing => FileRefusal::KeyMissing,
        File::Key => FileRefusal::KeyUnusable,
    })
}

fn verification(text: &str) -> Option<VerifyFailure> {
    let reason = text.split_once("certificate verify failed")?.1;
    let known = [
        ("self-signed certificate", VerifyFailure::UnknownCa),
        // OpenSSL 1.1.1.
        ("self signed certificate", VerifyFailure::UnknownCa),
        ("unable to get local issuer certificate", VerifyFailure::UnknownCa),
        ("unable to get issuer certificate", VerifyFailure::UnknownCa),
        ("certificate signature failure", VerifyFailure::UnknownCa),
        ("certificate has expired", VerifyFailure::Expired),
        ("certificate is not yet valid", VerifyFailure::NotYetValid),
        ("Hostname mismatch", VerifyFailure::HostName),
        ("IP address mismatch", VerifyFailure::HostName),
        ("unsuitable certificate purpose", VerifyFailure::Purpose),
        // OpenSSL 1.1.1.
        ("unsupported certificate purpose", VerifyFailure::Purpose),
        ("certificate revoked", VerifyFailure::Revoked),
    ];
    Some(known.iter().find(|(known, _)| reason.contains(known)).map_or(VerifyFailure::Certificate, |(_, failure)| *failure))
}

fn authentication(text: &str) -> Option<AuthRefusal> {
    // redis-py cuts the code (`NOAUTH`, `WRONGPASS`) off some messages and leaves it on others.
    if text.contains("invalid username-password pair") || text.contains("WRONGPASS") {
        Some(AuthRefusal::RedisWrongPassword)
    } else if text.contains("NOAUTH")
        || text.contains("Authentication required")
        || text.contains("must be called with the client already authenticated")
    {
        Some(AuthRefusal::RedisNoAuth)
    } else if text.contains("called without any password configured") {
        Some(AuthRefusal::Other)
    } else {
        None
    }
}

fn silence(text: &str, stage: Option<Stage>) -> Option<Refusal> {
    if text.contains("Connection refused") {
        return Some(Refusal::Closed(Stage::Connect));
    }
    if openssl::closed(text) {
        return Some(Refusal::Closed(stage.unwrap_or(Stage::Handshake)));
    }
    let timeout = text.contains("Timeout connecting to server") || text.contains("Timeout reading from") || text.contains("timed out");
    timeout.then(|| Refusal::TimedOut(stage.unwrap_or(Stage::Connect)))
}
