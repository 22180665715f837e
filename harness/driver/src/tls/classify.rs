//! The class of an I/O or TLS error, by matching enums.

use std::io;

use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

use model::refusal::{Alert, FileRefusal, Refusal, Stage, TlsRefusal, VerifyFailure};

/// The class of an I/O error that ended `stage`: of the TLS error inside, if there is one.
#[must_use]
pub fn classify_io(error: &io::Error, stage: Stage) -> Refusal {
    if let Some(error) = tls_error_of(error) {
        return classify_tls(error, stage);
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof
        // A unix socket that is not there: nobody listens.
        | io::ErrorKind::NotFound => Refusal::Closed(stage),
        io::ErrorKind::TimedOut => Refusal::TimedOut(stage),
        _ => Refusal::Unclassified(stage),
    }
}

/// The TLS error that tokio-rustls wrapped, if it is one.
pub(super) fn tls_error_of(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// The class of a TLS error that ended `stage`.
#[must_use]
pub fn classify_tls(error: &Error, stage: Stage) -> Refusal {
    match error {
        Error::AlertReceived(alert) => Refusal::Alert(Alert::from_code(u8::from(*alert))),
        Error::InvalidCertificate(error) => Refusal::Verify(classify_certificate(error)),
        Error::NoCertificatesPresented | Error::UnsupportedNameType => Refusal::Verify(VerifyFailure::Certificate),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Refusal::Tls(TlsRefusal::ProtocolVersion),
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType
            | InvalidMessage::UnknownProtocolVersion
            | InvalidMessage::MessageTooLarge
            | InvalidMessage::InvalidEmptyPayload,
        ) => Refusal::Tls(TlsRefusal::NotTls),
        Error::InconsistentKeys(_) => Refusal::File(FileRefusal::KeyMismatch),
        _ => Refusal::Unclassified(stage),
    }
}

fn classify_certificate(error: &CertificateError) -> VerifyFailure {
    match error {
        // A re-keyed CA of the same name is found by name, and then its key doesn't fit: OpenSSL calls both "unknown ca".
        CertificateError::UnknownIssuer | CertificateError::BadSignature => VerifyFailure::UnknownCa,
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => VerifyFailure::Expired,
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => VerifyFailure::NotYetValid,
        // Also what webpki says of a certificate with a CN and no subjectAltName.
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => VerifyFailure::HostName,
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => VerifyFailure::Purpose,
        CertificateError::Revoked => VerifyFailure::Revoked,
        CertificateError::BadEncoding | CertificateError::UnhandledCriticalExtension => VerifyFailure::BadEncoding,
        _ => VerifyFailure::Certificate,
    }
}

#[cfg(test)]
mod tests {
    use model::causes::with_causes;
    use rustls::{AlertDescription, InconsistentKeys};

    use super::*;

    fn wrapped(error: Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    #[test]
    fn an_alert_is_found_inside_the_io_error_that_carries_it() {
        let error = wrapped(Error::AlertReceived(AlertDescription::CertificateExpired));
        assert_eq!(classify_io(&error, Stage::PostHandshake), Refusal::Alert(Alert::CertificateExpired));
    }

    #[test]
    fn every_alert_that_postgres_and_redis_send_has_its_own_class() {
        for (description, alert) in [
            (AlertDescription::UnknownCA, Alert::UnknownCa),
            (AlertDescription::BadCertificate, Alert::BadCertificate),
            (AlertDescription::UnsupportedCertificate, Alert::UnsupportedCertificate),
            (AlertDescription::CertificateRevoked, Alert::CertificateRevoked),
            (AlertDescription::CertificateRequired, Alert::CertificateRequired),
            (AlertDescription::HandshakeFailure, Alert::HandshakeFailure),
            (AlertDescription::ProtocolVersion, Alert::ProtocolVersion),
            (AlertDescription::NoApplicationProtocol, Alert::NoApplicationProtocol),
        ] {
            assert_eq!(classify_tls(&Error::AlertReceived(description), Stage::Handshake), Refusal::Alert(alert));
        }
    }

    #[test]
    fn a_rekeyed_ca_of_the_same_name_counts_as_unknown_ca() {
        let error = Error::InvalidCertificate(CertificateError::BadSignature);
        assert_eq!(classify_tls(&error, Stage::Handshake), Refusal::Verify(VerifyFailure::UnknownCa));
    }

    #[test]
    fn a_reset_is_a_close_at_its_stage_and_an_unknown_error_stays_unclassified() {
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(classify_io(&reset, Stage::SslRequest), Refusal::Closed(Stage::SslRequest));
        let odd = io::Error::other("odd");
        assert_eq!(classify_io(&odd, Stage::Query), Refusal::Unclassified(Stage::Query));
    }

    #[test]
    fn each_fault_of_a_servers_certificate_has_its_class() {
        use rustls::pki_types::UnixTime;
        let time = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
        for (error, failure) in [
            (CertificateError::UnknownIssuer, VerifyFailure::UnknownCa),
            (CertificateError::Expired, VerifyFailure::Expired),
            (CertificateError::ExpiredContext { time, not_after: time }, VerifyFailure::Expired),
            (CertificateError::NotValidYet, VerifyFailure::NotYetValid),
            (CertificateError::NotValidYetContext { time, not_before: time }, VerifyFailure::NotYetValid),
            (CertificateError::NotValidForName, VerifyFailure::HostName),
            (CertificateError::InvalidPurpose, VerifyFailure::Purpose),
            (CertificateError::Revoked, VerifyFailure::Revoked),
            (CertificateError::BadEncoding, VerifyFailure::BadEncoding),
            (CertificateError::UnhandledCriticalExtension, VerifyFailure::BadEncoding),
            (CertificateError::ApplicationVerificationFailure, VerifyFailure::Certificate),
        ] {
            assert_eq!(classify_tls(&Error::InvalidCertificate(error.clone()), Stage::Handshake), Refusal::Verify(failure), "{error:?}");
        }
        for error in [Error::NoCertificatesPresented, Error::UnsupportedNameType] {
            assert_eq!(classify_tls(&error, Stage::Handshake), Refusal::Verify(VerifyFailure::Certificate), "{error:?}");
        }
    }

    #[test]
    fn a_server_of_another_version_and_one_without_tls_are_told_apart() {
        let at = Stage::Handshake;
        for reason in [PeerIncompatible::ServerDoesNotSupportTls12Or13, PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig] {
            assert_eq!(classify_tls(&Error::PeerIncompatible(reason), at), Refusal::Tls(TlsRefusal::ProtocolVersion));
        }
        for message in [InvalidMessage::InvalidContentType, InvalidMessage::UnknownProtocolVersion, InvalidMessage::MessageTooLarge] {
            assert_eq!(classify_tls(&Error::InvalidMessage(message), at), Refusal::Tls(TlsRefusal::NotTls));
        }
        assert_eq!(classify_tls(&Error::DecryptError, at), Refusal::Unclassified(at));
    }

    #[test]
    fn an_error_of_the_socket_is_a_close_a_time_out_or_without_a_class() {
        let at = Stage::Handshake;
        let class = |kind: io::ErrorKind| classify_io(&io::Error::from(kind), at);
        for kind in [io::ErrorKind::ConnectionRefused, io::ErrorKind::BrokenPipe, io::ErrorKind::UnexpectedEof, io::ErrorKind::NotFound] {
            assert_eq!(class(kind), Refusal::Closed(at), "{kind}");
        }
        assert_eq!(class(io::ErrorKind::TimedOut), Refusal::TimedOut(at));
        assert_eq!(class(io::ErrorKind::PermissionDenied), Refusal::Unclassified(at));
    }

    #[test]
    fn a_cause_that_the_text_does_not_end_with_is_added() {
        #[derive(Debug, thiserror::Error)]
        #[error("the connection failed")]
        struct Outer(#[source] io::Error);
        let error = Outer(wrapped(Error::DecryptError));
        assert_eq!(with_causes(&error), format!("the connection failed: {}", Error::DecryptError));
    }

    #[test]
    fn a_key_of_another_certificate_is_a_key_mismatch() {
        let error = Error::InconsistentKeys(InconsistentKeys::KeyMismatch);
        assert_eq!(classify_tls(&error, Stage::Handshake), Refusal::File(FileRefusal::KeyMismatch));
    }

    #[test]
    fn the_chain_names_every_cause_once() {
        let error = wrapped(Error::AlertReceived(AlertDescription::UnknownCA));
        assert_eq!(with_causes(&error), "received fatal alert: UnknownCA");
    }
}
