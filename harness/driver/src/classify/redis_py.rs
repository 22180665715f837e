//! Messages of redis-py (5 to 8) and of Python's `ssl` module beneath it.

use crate::protocol::{Failure, File};
use model::refusal::{AuthRefusal, FileRefusal, OptionRefusal, Refusal, ServerState, Stage, VerifyFailure};

use super::openssl;

/// The class of a failure; `None` if the text is not known.
#[must_use]
pub fn class(failure: &Failure) -> Option<Refusal> {
    let text = failure.text.as_str();
    // An alert that arrived while redis-py was writing: it tells only that it could not write.
    let unread = || failure.detail.as_deref().and_then(openssl::alert);
    option(text)
        .map(Refusal::Option)
        .or_else(|| file(failure).map(Refusal::File))
        .or_else(|| verification(text).map(Refusal::Verify))
        .or_else(|| openssl::alert(text).or_else(unread).map(Refusal::Alert))
        .or_else(|| authentication(text).map(Refusal::Auth))
        .or_else(|| text.contains("Redis is loading the dataset in memory").then_some(Refusal::Server(ServerState::StartingUp)))
        .or_else(|| openssl::own(text))
        .or_else(|| silence(text, failure.stage))
}

/// What redis-py refuses when it makes a connection object: the options of TLS on one without it, and a word it does not know.
fn option(text: &str) -> Option<OptionRefusal> {
    if text.contains("got an unexpected keyword argument") {
        Some(OptionRefusal::UnknownOption)
    } else {
        text.contains("Invalid SSL Certificate Requirements Flag").then_some(OptionRefusal::InvalidValue)
    }
}

/// Python names no file in any of these messages: the client tells which one it was.
fn file(failure: &Failure) -> Option<FileRefusal> {
    let text = failure.text.as_str();
    let file = failure.file?;
    // The last is a key of another type than the certificate's.
    if ["KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"].iter().any(|reason| text.contains(reason)) {
        return Some(FileRefusal::KeyMismatch);
    }
    let missing = text.contains("No such file or directory");
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::refusal::{Alert, TlsRefusal};

    fn failure(text: &str, stage: Stage) -> Failure {
        Failure { text: text.to_owned(), stage: Some(stage), ..Failure::default() }
    }

    fn with_file(text: &str, file: File) -> Failure {
        Failure { file: Some(file), ..failure(text, Stage::Handshake) }
    }

    #[test]
    fn each_text_of_a_class_is_enough_for_it() {
        let at = Stage::Authentication;
        let cases = [
            ("invalid username-password pair or user is disabled.", Refusal::Auth(AuthRefusal::RedisWrongPassword)),
            ("WRONGPASS", Refusal::Auth(AuthRefusal::RedisWrongPassword)),
            ("NOAUTH", Refusal::Auth(AuthRefusal::RedisNoAuth)),
            ("Authentication required.", Refusal::Auth(AuthRefusal::RedisNoAuth)),
            ("HELLO must be called with the client already authenticated", Refusal::Auth(AuthRefusal::RedisNoAuth)),
            ("AUTH <password> called without any password configured for the default user.", Refusal::Auth(AuthRefusal::Other)),
            ("Timeout connecting to server", Refusal::TimedOut(at)),
            ("Timeout reading from 127.0.0.1:6379", Refusal::TimedOut(at)),
            ("timed out", Refusal::TimedOut(at)),
            ("Connection refused", Refusal::Closed(Stage::Connect)),
        ];
        for (text, refusal) in cases {
            assert_eq!(class(&failure(text, at)), Some(refusal), "{text}");
        }
        assert_eq!(class(&failure("Timeout", at)), None);
    }

    #[test]
    fn each_reason_of_a_key_that_does_not_fit_is_enough() {
        for reason in ["KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"] {
            assert_eq!(class(&with_file(reason, File::Key)), Some(Refusal::File(FileRefusal::KeyMismatch)), "{reason}");
        }
        for (file, missing, unusable) in [
            (File::Root, FileRefusal::RootMissing, FileRefusal::RootUnusable),
            (File::Certificate, FileRefusal::CertificateMissing, FileRefusal::CertificateUnusable),
            (File::Key, FileRefusal::KeyMissing, FileRefusal::KeyUnusable),
        ] {
            assert_eq!(class(&with_file("[Errno 2] No such file or directory", file)), Some(Refusal::File(missing)));
            assert_eq!(class(&with_file("[SSL] PEM lib (_ssl.c:3900)", file)), Some(Refusal::File(unusable)));
        }
    }

    #[test]
    fn alerts_are_named_from_redis_pys_messages() {
        let reading = |text: &str| format!("Error while reading from pg.example:56379 : (1, '{text} (_ssl.c:2580)')");
        let cases = [
            ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", Alert::CertificateRequired),
            ("[SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired", Alert::CertificateExpired),
            ("[SSL: SSL/TLS_ALERT_CERTIFICATE_EXPIRED] ssl/tls alert certificate expired", Alert::CertificateExpired),
            ("[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca", Alert::UnknownCa),
            ("[SSL: SSLV3_ALERT_BAD_CERTIFICATE] sslv3 alert bad certificate", Alert::BadCertificate),
            ("[SSL: SSLV3_ALERT_UNSUPPORTED_CERTIFICATE] sslv3 alert unsupported certificate", Alert::UnsupportedCertificate),
        ];
        for (text, alert) in cases {
            assert_eq!(class(&failure(&reading(text), Stage::PostHandshake)), Some(Refusal::Alert(alert)), "{text}");
        }
    }

    #[test]
    fn an_alert_that_redis_py_left_unread_counts_where_it_only_says_that_it_could_not_write() {
        let mut told =
            failure("Error 8 while writing to socket. EOF occurred in violation of protocol (_ssl.c:2427).", Stage::PostHandshake);
        assert_eq!(class(&told), Some(Refusal::Closed(Stage::PostHandshake)));
        told.detail = Some("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)".to_owned());
        assert_eq!(class(&told), Some(Refusal::Alert(Alert::CertificateRequired)));
    }

    #[test]
    fn a_refused_server_certificate_is_told_with_its_reason() {
        let connecting = |text: &str| {
            format!(
                "Error 1 connecting to pg.example:56379. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: {text} (_ssl.c:1006)."
            )
        };
        let cases = [
            ("self-signed certificate in certificate chain", VerifyFailure::UnknownCa),
            ("unable to get local issuer certificate", VerifyFailure::UnknownCa),
            ("Hostname mismatch, certificate is not valid for 'wrong.example'.", VerifyFailure::HostName),
            ("IP address mismatch, certificate is not valid for '127.0.0.2'.", VerifyFailure::HostName),
            ("certificate has expired", VerifyFailure::Expired),
            ("certificate is not yet valid", VerifyFailure::NotYetValid),
            ("unsuitable certificate purpose", VerifyFailure::Purpose),
            ("Basic Constraints of CA cert not marked critical", VerifyFailure::Certificate),
        ];
        for (text, reason) in cases {
            assert_eq!(class(&failure(&connecting(text), Stage::Handshake)), Some(Refusal::Verify(reason)), "{text}");
        }
    }

    #[test]
    fn a_file_that_can_not_be_used_is_named_by_the_client() {
        let cases = [
            ("Error 2 connecting to pg.example:56379. No such file or directory.", File::Root, FileRefusal::RootMissing),
            ("Error 2 connecting to pg.example:56379. No such file or directory.", File::Certificate, FileRefusal::CertificateMissing),
            ("Error 2 connecting to pg.example:56379. No such file or directory.", File::Key, FileRefusal::KeyMissing),
            (
                "Error 136 connecting to pg.example:56379. [X509: NO_CERTIFICATE_OR_CRL_FOUND] no certificate or crl found (_ssl.c:4154).",
                File::Root,
                FileRefusal::RootUnusable,
            ),
            (
                "Error 524297 connecting to pg.example:56379. [SSL] PEM lib (_ssl.c:3905).",
                File::Certificate,
                FileRefusal::CertificateUnusable,
            ),
            ("Error 524297 connecting to pg.example:56379. [SSL] PEM lib (_ssl.c:3926).", File::Key, FileRefusal::KeyUnusable),
            (
                "Error 116 connecting to pg.example:56379. [X509: KEY_VALUES_MISMATCH] key values mismatch (_ssl.c:3926).",
                File::Key,
                FileRefusal::KeyMismatch,
            ),
            (
                "Error 177 connecting to pg.example:56379. [SSL: NO_CERTIFICATE_ASSIGNED] no certificate assigned (_ssl.c:3934).",
                File::Key,
                FileRefusal::KeyMismatch,
            ),
        ];
        for (text, file, refusal) in cases {
            assert_eq!(class(&with_file(text, file)), Some(Refusal::File(refusal)), "{text}");
        }
        assert_eq!(class(&failure("Error 524297 connecting to r:1. [SSL] PEM lib (_ssl.c:3905).", Stage::Handshake)), None);
    }

    #[test]
    fn passwords_are_told_apart_in_old_and_new_releases() {
        let cases = [
            ("invalid username-password pair or user is disabled.", AuthRefusal::RedisWrongPassword),
            ("WRONGPASS invalid username-password pair or user is disabled.", AuthRefusal::RedisWrongPassword),
            ("Authentication required.", AuthRefusal::RedisNoAuth),
            ("NOAUTH Authentication required.", AuthRefusal::RedisNoAuth),
            (
                "HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to \
                 authenticate the client and select the RESP protocol version at the same time",
                AuthRefusal::RedisNoAuth,
            ),
            (
                "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                AuthRefusal::Other,
            ),
        ];
        for (text, refusal) in cases {
            assert_eq!(class(&failure(text, Stage::PostHandshake)), Some(Refusal::Auth(refusal)), "{text}");
        }
    }

    #[test]
    fn silence_keeps_its_stage() {
        let reset = "Error while reading from pg.example:56379 : (104, 'Connection reset by peer')";
        assert_eq!(class(&failure(reset, Stage::Authentication)), Some(Refusal::Closed(Stage::Authentication)));
        let refused = "Error 111 connecting to pg.example:1. Connection refused.";
        assert_eq!(class(&failure(refused, Stage::Connect)), Some(Refusal::Closed(Stage::Connect)));
        assert_eq!(class(&failure("Connection closed by server.", Stage::PostHandshake)), Some(Refusal::Closed(Stage::PostHandshake)));
        // CLIENT KILL, a shutdown, a killed server: all the same.
        assert_eq!(class(&failure("Connection closed by server.", Stage::Query)), Some(Refusal::Closed(Stage::Query)));
        assert_eq!(class(&failure("Timeout connecting to server", Stage::Connect)), Some(Refusal::TimedOut(Stage::Connect)));
        let plain = "Error 1 connecting to r:6379. [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006).";
        assert_eq!(class(&failure(plain, Stage::Handshake)), Some(Refusal::Tls(TlsRefusal::NotTls)));
    }

    #[test]
    fn a_redis_that_loads_its_data_is_starting_up() {
        let loading = failure("Redis is loading the dataset in memory", Stage::Query);
        assert_eq!(class(&loading), Some(Refusal::Server(ServerState::StartingUp)));
    }

    #[test]
    fn options_that_fit_no_connection_are_told_apart() {
        let cases = [
            ("TypeError: AbstractConnection.__init__() got an unexpected keyword argument 'ssl_cert_reqs'", OptionRefusal::UnknownOption),
            ("Invalid SSL Certificate Requirements Flag: sometimes", OptionRefusal::InvalidValue),
        ];
        for (text, refusal) in cases {
            assert_eq!(class(&failure(text, Stage::Options)), Some(Refusal::Option(refusal)), "{text}");
        }
    }

    #[test]
    fn an_unknown_text_has_no_class() {
        assert_eq!(class(&failure("max number of clients reached", Stage::Query)), None);
    }
}
