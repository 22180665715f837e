//! Messages of libpq 15 to 18 (`fe-connect.c`, `fe-secure.c`, `fe-secure-openssl.c`, `fe-auth.c`), psycopg2's included: it passes them on.

use crate::driver::exec::protocol::Failure;
use crate::model::refusal::{AuthRefusal, FileRefusal, OptionRefusal, Refusal, Stage, TlsRefusal, VerifyFailure};

use super::openssl;

/// What every attempt's message begins with, since libpq 14.
const ATTEMPT: &str = "connection to server ";

/// The class of a failure; `None` if the text is not known.
#[must_use]
pub fn class(failure: &Failure) -> Option<Refusal> {
    let text = last_attempt(&failure.text);
    option(text)
        .map(Refusal::Option)
        .or_else(|| file(text).map(Refusal::File))
        .or_else(|| verification(text).map(Refusal::Verify))
        .or_else(|| authentication(text).map(Refusal::Auth))
        .or_else(|| openssl::alert(text).map(Refusal::Alert))
        .or_else(|| tls(text))
        .or_else(|| silence(text, failure.stage))
}

/// The message of the last attempt: with `allow` and `prefer` libpq may try twice, and tells of both. The last one decides.
#[must_use]
pub fn last_attempt(text: &str) -> &str {
    let inner = text.rfind(&format!("\n{ATTEMPT}")).map(|at| at + 1);
    &text[inner.unwrap_or_default()..]
}

fn option(text: &str) -> Option<OptionRefusal> {
    // These come before any attempt, so that nothing that a server wrote can be among them.
    if text.contains(ATTEMPT) {
        return None;
    }
    // psycopg2 checks option names before it connects, and puts `invalid dsn: ` before libpq's words.
    let text = text.strip_prefix("invalid dsn: ").unwrap_or(text);
    if text.starts_with("invalid connection option ") {
        return Some(OptionRefusal::UnknownOption);
    }
    if text.starts_with("weak sslmode ") && text.contains("may not be used with sslnegotiation=direct") {
        return Some(OptionRefusal::WeakSslmodeDirect);
    }
    let weak_system = text.starts_with("weak sslmode ") && text.contains("may not be used with sslrootcert=system");
    let value = text.starts_with("invalid ") && text.contains(" value: \"");
    let range = text.starts_with("invalid SSL protocol version range");
    (weak_system || value || range).then_some(OptionRefusal::InvalidValue)
}

fn file(text: &str) -> Option<FileRefusal> {
    let quoted = |before: &str, after: &str| {
        let rest = text.split_once(before).map(|(_, rest)| rest);
        rest.is_some_and(|rest| after.is_empty() || rest.contains(after))
    };
    if quoted("root certificate file \"", "\" does not exist")
        || text.contains("could not get home directory to locate root certificate file")
    {
        Some(FileRefusal::RootMissing)
    } else if quoted("could not read root certificate file \"", "") {
        Some(FileRefusal::RootUnusable)
    } else if quoted("could not open certificate file \"", "") || quoted("could not read certificate file \"", "") {
        Some(FileRefusal::CertificateUnusable)
    } else if quoted("certificate present, but not private key file \"", "") {
        Some(FileRefusal::KeyMissing)
    } else if quoted("private key file \"", "\" has group or world access") || quoted("private key file \"", "\" must be owned by") {
        Some(FileRefusal::KeyPermissions)
    } else if quoted("could not load private key file \"", "mismatch") || quoted("certificate does not match private key file \"", "") {
        Some(FileRefusal::KeyMismatch)
    } else if quoted("could not load private key file \"", "")
        || quoted("could not stat private key file \"", "")
        || quoted("private key file \"", "\" is not a regular file")
    {
        Some(FileRefusal::KeyUnusable)
    } else {
        None
    }
}

fn verification(text: &str) -> Option<VerifyFailure> {
    if text.contains("SSL error: certificate verify failed: unable to get local issuer certificate") {
        // libpq adds the reason only with sslrootcert=system.
        Some(VerifyFailure::UnknownCa)
    } else if text.contains("SSL error: certificate verify failed") {
        Some(VerifyFailure::Certificate)
    } else if text.contains("server certificate for \"") && text.contains("does not match host name \"")
        || text.contains("could not get server's host name from server certificate")
    {
        Some(VerifyFailure::HostName)
    } else if text.contains("SSL certificate's name contains embedded null") {
        Some(VerifyFailure::BadEncoding)
    } else {
        None
    }
}

fn authentication(text: &str) -> Option<AuthRefusal> {
    if text.contains("fe_sendauth: no password supplied") {
        return Some(AuthRefusal::NoPassword);
    }
    let message = text.split_once("FATAL:  ")?.1;
    let known = [
        ("no pg_hba.conf entry for ", AuthRefusal::NoHbaEntry),
        ("pg_hba.conf rejects ", AuthRefusal::HbaReject),
        ("connection requires a valid client certificate", AuthRefusal::ClientCertificateRequired),
        ("certificate authentication failed for user ", AuthRefusal::CertificateUser),
        ("client certificates can only be checked if a root certificate store is available", AuthRefusal::NoRootStore),
        ("password authentication failed for user ", AuthRefusal::Password),
        ("Peer authentication failed for user ", AuthRefusal::Peer),
    ];
    if let Some((_, refusal)) = known.iter().find(|(start, _)| message.starts_with(start)) {
        return Some(*refusal);
    }
    let missing = message.lines().next().is_some_and(|line| line.ends_with("\" does not exist"));
    Some(match message {
        _ if missing && message.starts_with("role \"") => AuthRefusal::NoRole,
        _ if missing && message.starts_with("database \"") => AuthRefusal::NoDatabase,
        _ => AuthRefusal::Other,
    })
}

fn tls(text: &str) -> Option<Refusal> {
    if text.contains("server does not support SSL, but SSL was required") {
        return Some(Refusal::Tls(TlsRefusal::NotOffered));
    }
    if text.contains("without ALPN protocol negotiation extension") {
        return Some(Refusal::Tls(TlsRefusal::NoAlpn));
    }
    if text.contains("received invalid response to SSL negotiation") {
        return Some(Refusal::Tls(TlsRefusal::NotTls));
    }
    text.contains("SSL error: ").then(|| openssl::own(text)).flatten()
}

fn silence(text: &str, stage: Option<Stage>) -> Option<Refusal> {
    if text.contains("Connection refused") {
        return Some(Refusal::Closed(Stage::Connect));
    }
    // A pasted text comes without a stage: TLS errors then belong to the handshake, which libpq's words don't tell from what follows it.
    let told = if text.contains("SSL ") { Stage::Handshake } else { Stage::Authentication };
    if openssl::closed(text) {
        return Some(Refusal::Closed(stage.unwrap_or(told)));
    }
    let timeout = text.contains("timeout expired") || text.contains("Connection timed out");
    timeout.then(|| Refusal::TimedOut(stage.unwrap_or(Stage::Connect)))
}
