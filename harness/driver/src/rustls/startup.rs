//! The stream that tokio-postgres is given: encrypted or not already, and watched until AuthenticationOk.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use x509_parser::oid_registry as oid;

use crate::tls::Stream;

/// What the server has said so far. tokio-postgres reports startup, authentication and the wait for ReadyForQuery as one, but libpq falls
/// back to another encryption only for what comes before AuthenticationOk.
///
/// Reads PostgreSQL's message framing: a type byte, a length that counts itself, a body (protocol-message-formats in its manual).
#[derive(Debug, Default)]
pub(super) struct StartupWatch {
    /// Type, length and the first four bytes of the body: enough to tell the authentication requests apart.
    head: Vec<u8>,
    skip: usize,
    /// The server has sent AuthenticationOk: whatever fails now, libpq tries no other encryption.
    pub(super) authenticated: bool,
    /// The server asked for a password in some form.
    pub(super) password_wanted: bool,
}

const HEAD: usize = 9;

impl StartupWatch {
    fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.authenticated {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = bytes.len().min(HEAD - self.head.len());
            self.head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if let [kind, a, b, c, d, e, f, g, h] = self.head[..] {
                if kind == b'R' {
                    match u32::from_be_bytes([e, f, g, h]) {
                        0 => self.authenticated = true,
                        // Cleartext, MD5, SASL.
                        3 | 5 | 10 => self.password_wanted = true,
                        _ => {}
                    }
                }
                let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                // Every message before AuthenticationOk has a body of at least four bytes.
                self.skip = length.saturating_sub(HEAD - 1);
                self.head.clear();
            }
        }
    }
}

/// A [`StartupWatch`] shared with the stream that tokio-postgres owns.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedWatch(Arc<Mutex<StartupWatch>>);

impl SharedWatch {
    pub(super) fn lock(&self) -> MutexGuard<'_, StartupWatch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A [`Stream`] under watch.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    watch: SharedWatch,
}

impl Watched {
    pub(super) fn new(stream: Stream, watch: SharedWatch) -> Self {
        Self { stream, watch }
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.watch.lock().read(&buffer.filled()[before..]);
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl TlsStream for Watched {
    fn channel_binding(&self) -> ChannelBinding {
        match self.stream.server_certificate().and_then(|certificate| server_end_point(certificate)) {
            Some(hash) => ChannelBinding::tls_server_end_point(hash),
            None => ChannelBinding::none(),
        }
    }
}

/// `tls-server-end-point` (RFC 5929, section 4.1): the certificate hashed with its signature's own digest, MD5 and SHA-1 replaced by
/// SHA-256. `None` where the signature has no single digest (Ed25519): such a session goes without channel binding.
fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = &parsed.signature_algorithm.algorithm;
    let is_one_of = |known: &[oid::Oid<'_>]| known.contains(algorithm);
    if is_one_of(&[oid::OID_SIG_ECDSA_WITH_SHA256, oid::OID_PKCS1_SHA256WITHRSA, oid::OID_PKCS1_SHA1WITHRSA, oid::OID_PKCS1_MD5WITHRSAENC])
    {
        Some(Sha256::digest(certificate).to_vec())
    } else if is_one_of(&[oid::OID_SIG_ECDSA_WITH_SHA384, oid::OID_PKCS1_SHA384WITHRSA]) {
        Some(Sha384::digest(certificate).to_vec())
    } else if is_one_of(&[oid::OID_SIG_ECDSA_WITH_SHA512, oid::OID_PKCS1_SHA512WITHRSA]) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

/// tokio-postgres' TLS step for a stream whose handshake is behind it. Used with `sslnegotiation=direct`, so that tokio-postgres sends no
/// SSLRequest of its own and still asks the stream for its channel binding.
pub(super) struct HandshakeDone;

impl TlsConnect<Watched> for HandshakeDone {
    type Stream = Watched;
    type Error = Infallible;
    type Future = Ready<Result<Watched, Infallible>>;

    fn connect(self, stream: Watched) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AuthenticationSASL with its mechanism list, as PostgreSQL 17 sends it over TLS.
    const SASL: &[u8] = b"R\x00\x00\x00\x2a\x00\x00\x00\x0aSCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00";
    const OK: &[u8] = b"R\x00\x00\x00\x08\x00\x00\x00\x00";

    #[test]
    fn authentication_ok_is_found_whatever_the_pieces_it_comes_in() {
        let bytes = [SASL, OK, b"S\x00\x00\x00\x16application_name\x00\x00"].concat();
        for size in 1..bytes.len() {
            let mut watch = StartupWatch::default();
            for piece in bytes.chunks(size) {
                watch.read(piece);
            }
            assert!(watch.authenticated && watch.password_wanted, "in pieces of {size}");
        }
    }

    #[test]
    fn a_password_request_alone_is_no_authentication() {
        let mut watch = StartupWatch::default();
        watch.read(SASL);
        assert!(watch.password_wanted);
        assert!(!watch.authenticated);
    }

    #[test]
    fn an_error_response_is_neither() {
        let mut watch = StartupWatch::default();
        watch.read(b"E\x00\x00\x00\x1dSFATAL\x00C28000\x00Mno\x00R\x00\x00\x00\x00\x00\x00");
        assert!(!watch.password_wanted && !watch.authenticated);
    }

    #[test]
    fn the_channel_binding_hash_follows_the_certificates_signature() {
        for (algorithm, length) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(32)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(48)),
            // A pure signature has no digest to use.
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).expect("a key");
            let parameters = rcgen::CertificateParams::new(["pg.example".to_owned()]).expect("parameters");
            let certificate = parameters.self_signed(&key).expect("a certificate");
            assert_eq!(server_end_point(certificate.der()).map(|hash| hash.len()), length, "{algorithm:?}");
        }
    }
}
