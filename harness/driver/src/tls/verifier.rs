//! What is verified of a server's certificate: nothing, the chain, or chain and name.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

/// How much of a server's certificate a client verifies.
#[derive(Debug, Clone)]
pub enum Verification {
    /// Nothing: libpq's `require` and weaker without a root certificate file, `ssl_cert_reqs=none`.
    Nothing,
    /// The chain up to one of these roots: libpq's `verify-ca`, and any weaker mode whose root certificate file exists.
    Chain(RootCertStore),
    /// Chain and host name: libpq's `verify-full`.
    ChainAndName(RootCertStore),
}

/// A verifier for any [`Verification`].
///
/// Checks in the order of rustls' own verifier (chain and usage, then name), and as that one does before the handshake is over: the server
/// learns of a refusal by an alert. libpq compares the name after the handshake and just closes.
#[derive(Debug)]
pub struct ServerVerifier {
    verification: Verification,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    /// A verifier with the algorithms of `provider`.
    #[must_use]
    pub fn new(verification: Verification, provider: Arc<CryptoProvider>) -> Self {
        Self { verification, provider }
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (roots, check_name) = match &self.verification {
            Verification::Nothing => return Ok(ServerCertVerified::assertion()),
            Verification::Chain(roots) => (roots, false),
            Verification::ChainAndName(roots) => (roots, true),
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
        if check_name {
            rustls::client::verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
