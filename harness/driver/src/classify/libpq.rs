//! Messages of libpq 15 to 18 (`fe-connect.c`, `fe-secure.c`, `fe-secure-openssl.c`, `fe-auth.c`), psycopg2's included: it passes them on.

use crate::protocol::Failure;
use model::refusal::{AuthRefusal, FileRefusal, OptionRefusal, Refusal, Stage, TlsRefusal, VerifyFailure};

use super::{openssl, server};

/// What every attempt's message begins with, since libpq 14.
const ATTEMPT: &str = "connection to server ";

/// What a FATAL message begins with.
const FATAL: &str = "FATAL:  ";

/// The class of a failure; `None` if the text is not known.
#[must_use]
pub fn class(failure: &Failure) -> Option<Refusal> {
    let text = last_attempt(&failure.text);
    option(text)
        .map(Refusal::Option)
        .or_else(|| file(text).map(Refusal::File))
        .or_else(|| verification(text).map(Refusal::Verify))
        .or_else(|| server::class(failure.sqlstate.as_deref(), text.split_once(FATAL)?.1))
        .or_else(|| if failure.stage == Some(Stage::Query) { None } else { authentication(text).map(Refusal::Auth) })
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
    let message = text.split_once(FATAL)?.1;
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

/// Nobody there, or nothing more came.
fn silence(text: &str, stage: Option<Stage>) -> Option<Refusal> {
    // Both over TCP and where there is no such unix socket.
    if text.contains("Connection refused") || text.contains("Is the server running") {
        return Some(Refusal::Closed(Stage::Connect));
    }
    // Without a stage: libpq speaks of SSL once the handshake has begun, and does not tell what follows it. Before that it waits for the
    // answer to SSLRequest, unless it was asked for plaintext.
    let told = if text.contains("SSL ") { Stage::Handshake } else { Stage::SslRequest };
    if openssl::closed(text) {
        return Some(Refusal::Closed(stage.unwrap_or(told)));
    }
    let timeout = text.contains("timeout expired") || text.contains("Connection timed out");
    timeout.then(|| Refusal::TimedOut(stage.unwrap_or(Stage::Connect)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::refusal::{Alert, EndReason, ServerState};

    /// The message of an attempt over TCP.
    fn attempt(text: &str) -> String {
        format!("connection to server at \"127.0.0.1\", port 55417 failed: {text}\n")
    }

    fn told(text: &str, stage: Option<Stage>) -> Option<Refusal> {
        class(&Failure { text: text.to_owned(), stage, ..Failure::default() })
    }

    fn check(cases: &[(&str, Refusal)], stage: Stage) {
        for (text, refusal) in cases {
            assert_eq!(told(&attempt(text), Some(stage)), Some(*refusal), "{text}");
            // psycopg2 tells no stage; a person pastes only the line that matters.
            assert_eq!(told(text, None), Some(*refusal), "{text}, alone");
        }
    }

    #[test]
    fn a_refused_client_certificate_is_named_by_its_alert() {
        let cases = [
            ("SSL error: tlsv1 alert unknown ca", Refusal::Alert(Alert::UnknownCa)),
            ("SSL error: sslv3 alert certificate expired", Refusal::Alert(Alert::CertificateExpired)),
            ("SSL error: ssl/tls alert certificate expired", Refusal::Alert(Alert::CertificateExpired)),
            ("SSL error: sslv3 alert bad certificate", Refusal::Alert(Alert::BadCertificate)),
            ("SSL error: ssl/tls alert bad certificate", Refusal::Alert(Alert::BadCertificate)),
            ("SSL error: sslv3 alert unsupported certificate", Refusal::Alert(Alert::UnsupportedCertificate)),
            ("SSL error: sslv3 alert certificate revoked", Refusal::Alert(Alert::CertificateRevoked)),
            (
                "SSL error: tlsv1 alert protocol version\nThis may indicate that the server does not support any SSL protocol version \
                 between TLSv1 and TLSv1.",
                Refusal::Alert(Alert::ProtocolVersion),
            ),
        ];
        check(&cases, Stage::PostHandshake);
    }

    #[test]
    fn a_fatal_message_is_named_by_its_beginning() {
        let cases = [
            (
                "FATAL:  no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"db_cert\", no encryption",
                AuthRefusal::NoHbaEntry,
            ),
            (
                "FATAL:  pg_hba.conf rejects connection for host \"127.0.0.1\", user \"app\", database \"db_reject\", SSL encryption",
                AuthRefusal::HbaReject,
            ),
            ("FATAL:  connection requires a valid client certificate", AuthRefusal::ClientCertificateRequired),
            ("FATAL:  certificate authentication failed for user \"app\"", AuthRefusal::CertificateUser),
            ("FATAL:  client certificates can only be checked if a root certificate store is available", AuthRefusal::NoRootStore),
            ("FATAL:  password authentication failed for user \"app\"", AuthRefusal::Password),
            ("fe_sendauth: no password supplied", AuthRefusal::NoPassword),
            ("FATAL:  Peer authentication failed for user \"app\"", AuthRefusal::Peer),
            ("FATAL:  role \"nobody\" does not exist", AuthRefusal::NoRole),
            ("FATAL:  database \"absent\" does not exist", AuthRefusal::NoDatabase),
            ("FATAL:  sorry, too many clients already", AuthRefusal::Other),
        ];
        let cases = cases.map(|(text, refusal)| (text, Refusal::Auth(refusal)));
        check(&cases, Stage::Authentication);
    }

    #[test]
    fn a_fatal_message_in_a_session_is_no_refused_authentication() {
        let text = "FATAL:  terminating connection due to conflict with recovery\n";
        assert_eq!(told(text, Some(Stage::Query)), None);
    }

    #[test]
    fn a_server_that_starts_or_stops_refuses_by_what_it_says_of_itself() {
        let cases = [
            ("FATAL:  the database system is starting up", Refusal::Server(ServerState::StartingUp)),
            ("FATAL:  the database system is shutting down", Refusal::Server(ServerState::ShuttingDown)),
            ("FATAL:  the database system is in recovery mode", Refusal::Server(ServerState::InRecovery)),
            (
                "FATAL:  the database system is not yet accepting connections\nDETAIL:  Consistent recovery state has not been yet reached.",
                Refusal::Server(ServerState::NotAccepting),
            ),
            ("FATAL:  terminating connection due to administrator command", Refusal::Ended(EndReason::AdminShutdown)),
        ];
        check(&cases, Stage::Authentication);
    }

    #[test]
    fn a_session_that_was_ended_is_told_with_the_reason_where_the_server_gave_one() {
        let admin = "FATAL:  terminating connection due to administrator command\nSSL connection has been closed unexpectedly\n";
        assert_eq!(told(admin, Some(Stage::Query)), Some(Refusal::Ended(EndReason::AdminShutdown)));
        // A backend that was killed, or any backend after that; what psycopg2 leaves of a FATAL; a relay that was cut.
        for text in [
            "SSL SYSCALL error: EOF detected\n",
            "SSL SYSCALL error: Connection reset by peer\n",
            "SSL connection has been closed unexpectedly\n",
            "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing \
             the request.\n",
        ] {
            assert_eq!(told(text, Some(Stage::Query)), Some(Refusal::Closed(Stage::Query)), "{text}");
        }
    }

    #[test]
    fn a_server_that_goes_away_during_the_connect_closed_at_its_stage() {
        // libpq 17 as its server stops.
        let twice = "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while \
                     processing the request.\nSSL SYSCALL error: Connection reset by peer";
        assert_eq!(told(&attempt(twice), Some(Stage::SslRequest)), Some(Refusal::Closed(Stage::SslRequest)));
        let reset = "Connection reset by peer\n\tIs the server running on that host and accepting TCP/IP connections?";
        check(&[(reset, Refusal::Closed(Stage::Connect))], Stage::Connect);
    }

    #[test]
    fn unusable_files_are_told_apart() {
        let cases = [
            (
                "root certificate file \"/nonexistent/ca.crt\" does not exist\nEither provide the file, use the system's trusted roots with \
                 sslrootcert=system, or change sslmode to disable server certificate verification.",
                FileRefusal::RootMissing,
            ),
            ("could not read root certificate file \"/c/garbage.crt\": PEM lib", FileRefusal::RootUnusable),
            ("could not read root certificate file \"/c/garbage.crt\": no certificate or crl found", FileRefusal::RootUnusable),
            ("could not read certificate file \"/c/garbage.crt\": no start line", FileRefusal::CertificateUnusable),
            ("certificate present, but not private key file \"/nonexistent/x.key\"", FileRefusal::KeyMissing),
            (
                "private key file \"/c/k644.key\" has group or world access; file must have permissions u=rw (0600) or less if owned by the \
                 current user, or permissions u=rw,g=r (0640) or less if owned by root",
                FileRefusal::KeyPermissions,
            ),
            ("could not load private key file \"/c/otherkey.key\": key values mismatch", FileRefusal::KeyMismatch),
            ("certificate does not match private key file \"/c/rsa.key\": no certificate assigned", FileRefusal::KeyMismatch),
            ("could not load private key file \"/c/trunc.key\": unsupported", FileRefusal::KeyUnusable),
            ("could not load private key file \"/c/trunc.key\": short header", FileRefusal::KeyUnusable),
            ("could not load private key file \"/c/trunc.key\": bad end line", FileRefusal::KeyUnusable),
            ("private key file \"/c/dir.key\" is not a regular file", FileRefusal::KeyUnusable),
        ];
        let cases = cases.map(|(text, refusal)| (text, Refusal::File(refusal)));
        check(&cases, Stage::Handshake);
    }

    #[test]
    fn random_bytes_after_an_unreadable_key_do_not_matter() {
        let text = "could not load private key file \"/c/noread.key\": \u{fffd}\u{fffd}\u{fffd}Bj\u{7f}";
        assert_eq!(told(&attempt(text), Some(Stage::Handshake)), Some(Refusal::File(FileRefusal::KeyUnusable)));
    }

    #[test]
    fn a_refused_server_certificate_is_told_apart_from_a_wrong_host() {
        let cases = [
            ("SSL error: certificate verify failed", VerifyFailure::Certificate),
            ("SSL error: certificate verify failed: unable to get local issuer certificate", VerifyFailure::UnknownCa),
            (
                "server certificate for \"pg.example\" (and 2 other names) does not match host name \"wrong.example\"",
                VerifyFailure::HostName,
            ),
            ("server certificate for \"pg.example\" does not match host name \"wrong.example\"", VerifyFailure::HostName),
        ];
        let cases = cases.map(|(text, refusal)| (text, Refusal::Verify(refusal)));
        check(&cases, Stage::Handshake);
    }

    #[test]
    fn options_are_refused_before_any_attempt() {
        let cases = [
            ("invalid connection option \"sslnegotiation\"\n", OptionRefusal::UnknownOption),
            ("invalid dsn: invalid connection option \"sslnegotiation\"\n", OptionRefusal::UnknownOption),
            (
                "weak sslmode \"prefer\" may not be used with sslnegotiation=direct (use \"require\", \"verify-ca\", or \"verify-full\")\n",
                OptionRefusal::WeakSslmodeDirect,
            ),
            ("weak sslmode \"require\" may not be used with sslrootcert=system (use \"verify-full\")\n", OptionRefusal::InvalidValue),
            ("invalid sslmode value: \"sometimes\"\n", OptionRefusal::InvalidValue),
            ("invalid SSL protocol version range\n", OptionRefusal::InvalidValue),
        ];
        for (text, refusal) in cases {
            assert_eq!(told(text, Some(Stage::Options)), Some(Refusal::Option(refusal)), "{text}");
        }
    }

    #[test]
    fn a_server_without_tls_and_one_that_is_silent_differ() {
        let cases = [
            ("server does not support SSL, but SSL was required", Refusal::Tls(TlsRefusal::NotOffered)),
            (
                "SSL error: no protocols available\nThis may indicate that the server does not support any SSL protocol version between TLSv1 and \
                 TLSv1.",
                Refusal::Tls(TlsRefusal::ProtocolVersion),
            ),
            ("SSL error: unsupported protocol", Refusal::Tls(TlsRefusal::ProtocolVersion)),
            ("SSL error: wrong version number", Refusal::Tls(TlsRefusal::NotTls)),
            ("SSL SYSCALL error: EOF detected", Refusal::Closed(Stage::Handshake)),
            ("SSL SYSCALL error: Connection reset by peer", Refusal::Closed(Stage::Handshake)),
            ("SSL error: unexpected eof while reading", Refusal::Closed(Stage::Handshake)),
        ];
        check(&cases, Stage::Handshake);
        let closed = "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while \
                      processing the request.";
        assert_eq!(told(&attempt(closed), Some(Stage::Authentication)), Some(Refusal::Closed(Stage::Authentication)));
        assert_eq!(told(closed, None), Some(Refusal::Closed(Stage::SslRequest)));
        let nobody = "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?";
        check(&[(nobody, Refusal::Closed(Stage::Connect))], Stage::Connect);
    }

    #[test]
    fn the_last_of_several_attempts_decides() {
        let refused = attempt("FATAL:  no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"db_cert\", no encryption");
        let no_certificate = attempt("FATAL:  connection requires a valid client certificate");
        let alert = attempt("SSL error: tlsv1 alert unknown ca");
        let prefer = format!("{no_certificate}{refused}");
        assert_eq!(told(&prefer, Some(Stage::Authentication)), Some(Refusal::Auth(AuthRefusal::NoHbaEntry)));
        let allow = format!("{refused}{no_certificate}");
        assert_eq!(told(&allow, Some(Stage::PostHandshake)), Some(Refusal::Auth(AuthRefusal::ClientCertificateRequired)));
        let allow = format!("{refused}{alert}");
        assert_eq!(told(&allow, Some(Stage::PostHandshake)), Some(Refusal::Alert(Alert::UnknownCa)));
        let tls12 = format!("{alert}{refused}");
        assert_eq!(told(&tls12, Some(Stage::Authentication)), Some(Refusal::Auth(AuthRefusal::NoHbaEntry)));
        assert_eq!(last_attempt(&tls12), refused);
    }

    #[test]
    fn a_text_that_only_begins_or_ends_like_a_known_one_has_no_class() {
        for text in [
            "weak sslmode \"prefer\" is discouraged",
            "a connection may not be used with sslrootcert=system",
            "a connection may not be used with sslnegotiation=direct",
            "invalid length of startup packet",
            "the setting has an invalid value: \"x\"",
            "server certificate for \"db.example\" was read",
            "the address does not match host name \"db.example\"",
            "root certificate file \"/c/ca.crt\" was read",
            "private key file \"/c/x.key\" was read",
        ] {
            assert_eq!(told(text, None), None, "{text}");
        }
        let weak = "weak sslmode \"prefer\" may not be used with sslrootcert=system (use \"verify-full\")";
        assert_eq!(told(weak, None), Some(Refusal::Option(OptionRefusal::InvalidValue)));
        let names = "server certificate for \"a.example\" (and 2 other names) does not match host name \"db.example\"";
        assert_eq!(told(names, None), Some(Refusal::Verify(VerifyFailure::HostName)));
        let unnamed = "could not get server's host name from server certificate";
        assert_eq!(told(unnamed, None), Some(Refusal::Verify(VerifyFailure::HostName)));
        for text in ["Connection refused", "Is the server running locally and accepting connections on that socket?"] {
            assert_eq!(told(text, Some(Stage::Connect)), Some(Refusal::Closed(Stage::Connect)), "{text}");
        }
        for text in ["timeout expired", "Connection timed out"] {
            assert_eq!(told(text, Some(Stage::Handshake)), Some(Refusal::TimedOut(Stage::Handshake)), "{text}");
        }
    }

    #[test]
    fn a_role_that_is_missing_is_told_from_what_else_is_missing() {
        let other = "FATAL:  role \"app\" is not permitted to log in";
        assert_eq!(told(other, None), Some(Refusal::Auth(AuthRefusal::Other)));
        let tablespace = "FATAL:  tablespace \"x\" does not exist";
        assert_eq!(told(tablespace, None), Some(Refusal::Auth(AuthRefusal::Other)));
        let database = "FATAL:  database \"x\" is not currently accepting connections";
        assert_eq!(told(database, None), Some(Refusal::Auth(AuthRefusal::Other)));
    }

    #[test]
    fn an_unknown_text_has_no_class() {
        assert_eq!(told(&attempt("could not translate host name \"x\" to address: Name or service not known"), Some(Stage::Connect)), None);
        assert_eq!(told("", Some(Stage::Handshake)), None);
    }
}
