//! The reason texts of OpenSSL 1.1.1 to 3.5, as they stand in the messages of libpq and of Python's `ssl`.

use model::refusal::{Alert, Refusal, TlsRefusal};

/// What OpenSSL writes before the name of an alert that the peer sent: which one depends on the alert and on OpenSSL's version.
const ALERT_PREFIXES: [&str; 4] = ["tlsv13 alert ", "tlsv1 alert ", "sslv3 alert ", "ssl/tls alert "];

/// OpenSSL's reason code for a received alert is the alert's number above this (`SSL_AD_REASON_OFFSET`).
const ALERT_REASON_OFFSET: u64 = 1000;

/// The alert that the peer sent, if the text tells of one.
pub(super) fn alert(text: &str) -> Option<Alert> {
    let name = ALERT_PREFIXES.iter().find_map(|prefix| Some(text.split_once(prefix)?.1));
    if let Some(name) = name {
        return Some(named(name));
    }
    if text.contains("tlsv1 unrecognized name") {
        return Some(Alert::UnrecognizedName);
    }
    // libpq, where this OpenSSL has no text for the reason.
    let code = text.split_once("SSL error code ")?.1;
    let code: u64 = code.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let reason = code & 0xfff;
    u8::try_from(reason.checked_sub(ALERT_REASON_OFFSET)?).ok().map(Alert::from_code)
}

fn named(rest: &str) -> Alert {
    let known = [
        ("unexpected message", Alert::UnexpectedMessage),
        ("handshake failure", Alert::HandshakeFailure),
        ("bad certificate", Alert::BadCertificate),
        ("unsupported certificate", Alert::UnsupportedCertificate),
        ("certificate revoked", Alert::CertificateRevoked),
        ("certificate expired", Alert::CertificateExpired),
        ("certificate unknown", Alert::CertificateUnknown),
        ("illegal parameter", Alert::IllegalParameter),
        ("unknown ca", Alert::UnknownCa),
        ("access denied", Alert::AccessDenied),
        ("decode error", Alert::DecodeError),
        ("decrypt error", Alert::DecryptError),
        ("protocol version", Alert::ProtocolVersion),
        ("insufficient security", Alert::InsufficientSecurity),
        ("internal error", Alert::InternalError),
        ("certificate required", Alert::CertificateRequired),
        ("no application protocol", Alert::NoApplicationProtocol),
    ];
    // `bad certificate status response` and others that only begin like a known one have a number of their own.
    let name = rest.split(['\n', '(']).next().unwrap_or_default().trim();
    known.iter().find(|(text, _)| *text == name).map_or(Alert::Other, |(_, alert)| *alert)
}

/// A handshake that this side gave up, no certificate being at fault.
pub(super) fn own(text: &str) -> Option<Refusal> {
    let known = [
        ("unsupported protocol", TlsRefusal::ProtocolVersion),
        ("no protocols available", TlsRefusal::ProtocolVersion),
        ("wrong version number", TlsRefusal::NotTls),
        ("packet length too long", TlsRefusal::NotTls),
    ];
    known.iter().find(|(reason, _)| text.contains(reason)).map(|(_, refusal)| Refusal::Tls(*refusal))
}

/// The peer ended the stream in the middle of TLS or outside it, or there was nobody to connect to.
pub(super) fn closed(text: &str) -> bool {
    const KNOWN: [&str; 9] = [
        "server closed the connection unexpectedly",
        "SSL connection has been closed unexpectedly",
        "EOF detected",
        "unexpected eof while reading",
        "EOF occurred in violation of protocol",
        "Connection closed by server",
        "Connection reset by peer",
        "Broken pipe",
        "Connection aborted",
    ];
    KNOWN.iter().any(|known| text.contains(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_known_in_every_spelling() {
        let cases = [
            ("SSL error: tlsv1 alert unknown ca\n", Alert::UnknownCa),
            ("SSL error: sslv3 alert certificate expired", Alert::CertificateExpired),
            ("SSL error: ssl/tls alert certificate expired", Alert::CertificateExpired),
            ("SSL error: ssl/tls alert bad certificate", Alert::BadCertificate),
            ("SSL error: sslv3 alert unsupported certificate", Alert::UnsupportedCertificate),
            ("SSL error: sslv3 alert certificate revoked", Alert::CertificateRevoked),
            ("SSL error: sslv3 alert handshake failure", Alert::HandshakeFailure),
            ("SSL error: tlsv1 alert protocol version\nThis may indicate that ...", Alert::ProtocolVersion),
            ("SSL error: tlsv1 alert no application protocol", Alert::NoApplicationProtocol),
            ("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required (_ssl.c:2580)", Alert::CertificateRequired),
            ("SSL error: tlsv1 unrecognized name", Alert::UnrecognizedName),
            ("SSL error: sslv3 alert bad record mac", Alert::Other),
        ];
        for (text, expected) in cases {
            assert_eq!(alert(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn an_alert_without_a_text_is_known_by_its_number() {
        // 0x14094460: OpenSSL 1.1.1's library 20, a function, and reason 1000 + 120.
        assert_eq!(alert("SSL error code 336151648"), Some(Alert::NoApplicationProtocol));
        assert_eq!(alert("SSL error code 336134278"), None, "reason 134 is certificate verify failed");
    }

    #[test]
    fn a_refusal_of_this_side_is_no_alert() {
        assert_eq!(alert("SSL error: certificate verify failed"), None);
        assert_eq!(own("SSL error: unsupported protocol"), Some(Refusal::Tls(TlsRefusal::ProtocolVersion)));
        assert_eq!(own("SSL error: wrong version number"), Some(Refusal::Tls(TlsRefusal::NotTls)));
        assert_eq!(own("SSL error: certificate verify failed"), None);
    }
}
