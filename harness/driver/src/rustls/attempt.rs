//! One attempt: connect, negotiate, start up, ask the server for its view.
//!
//! What libpq retries with another encryption it decides in three places of `PQconnectPoll`: an `N` to SSLRequest goes on over the same
//! connection, a failure between `S` and the end of the handshake (unusable files included: they are read there) and an ErrorResponse
//! before AuthenticationOk go on over a new one. Everything else ends the call, above all a TLS 1.3 alert after the handshake.

use std::time::Instant;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_postgres::config::{SslMode as WireSslMode, SslNegotiation as WireSslNegotiation};
use tokio_rustls::TlsConnector;

use super::classify::classify_db_error;
use super::negotiation::Encryption;
use super::session::{PostgresSession, classify_protocol_error};
use super::startup::{HandshakeDone, SharedWatch, Watched};
use crate::tls::{
    self, Ended, SharedStreamErrors, Stream, TlsKit, TlsOffer, Trace, Transport, Verification, classify_io, classify_tls, nanoseconds,
};
use model::causes::with_causes;
use model::connect::{Password, PostgresRequest, SslMode, SslNegotiation};
use model::endpoint::Address;
use model::observation::{Refused, Session};
use model::refusal::{AuthRefusal, Refusal, Stage, TlsRefusal};

/// The protocol name that PostgreSQL registered for ALPN.
const ALPN: &str = "postgresql";

/// SSLRequest: its length and its code (PostgreSQL manual, protocol-message-formats).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// An attempt that ended without a session.
#[derive(Debug)]
pub(super) enum Failed {
    /// libpq tries its next encryption after this one.
    Retryable(Refused),
    /// The call ends: libpq tries nothing more after this one.
    Final(Ended),
}

impl From<Ended> for Failed {
    fn from(ended: Ended) -> Self {
        Self::Final(ended)
    }
}

/// A checked session, and the means to go on with it.
pub(super) struct Established {
    pub(super) session: Session,
    pub(super) opened: PostgresSession,
}

/// What all attempts of a call have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) driver: &'a str,
    pub(super) kit: &'a TlsKit,
    pub(super) request: &'a PostgresRequest,
    pub(super) versions: &'static [&'static rustls::SupportedProtocolVersion],
    /// Whether an `N` may be followed by plaintext.
    pub(super) plaintext_allowed: bool,
}

impl Attempt<'_> {
    /// Runs it. `trace` holds its stage and phases, also if it is dropped half-way.
    pub(super) async fn run(&self, encryption: Encryption, trace: &mut Trace) -> Result<Established, Failed> {
        trace.restart();
        let transport = self.connect(trace).await?;
        let stream_errors = tls::shared_stream_errors();
        let stream = match encryption {
            Encryption::Plain => Stream::plain(transport, SharedStreamErrors::clone(&stream_errors)),
            Encryption::Tls => self.secure(transport, SharedStreamErrors::clone(&stream_errors), trace).await?,
        };
        let session = stream.session();
        // After an `N` both encryptions are used up.
        let last = encryption == Encryption::Tls && !session.tls;
        match self.start(stream, session, &stream_errors, trace).await {
            Err(Failed::Retryable(refused)) if last => Err(Failed::Final(refused.into())),
            result => result,
        }
    }

    async fn connect(&self, trace: &mut Trace) -> Result<Transport, Ended> {
        match &self.request.endpoint.address {
            Address::Tcp(address) => {
                let begun = Instant::now();
                let transport = tls::connect_tcp(self.driver, *address).await?;
                trace.phases.tcp_ns = Some(nanoseconds(begun.elapsed()));
                Ok(transport)
            }
            Address::Unix { directory, port } => tls::connect_unix(self.driver, &directory.join(format!(".s.PGSQL.{port}"))).await,
        }
    }

    /// SSLRequest (unless direct) and TLS handshake. Gives a plaintext stream after an `N`, where the plan has one.
    async fn secure(&self, mut transport: Transport, stream_errors: SharedStreamErrors, trace: &mut Trace) -> Result<Stream, Failed> {
        let direct = self.request.sslnegotiation == Some(SslNegotiation::Direct);
        if !direct && !self.ask_for_tls(&mut transport, trace).await? {
            return Ok(Stream::plain(transport, stream_errors));
        }
        trace.stage = Stage::Handshake;
        let (connector, name) = self.connector()?;
        let begun = Instant::now();
        let stream = connector.connect(name, transport).await.map_err(|error| {
            Failed::Retryable(refused(
                classify_io(&error, Stage::Handshake),
                Stage::Handshake,
                format!("TLS handshake: {}", with_causes(&error)),
            ))
        })?;
        trace.phases.tls_ns = Some(nanoseconds(begun.elapsed()));
        let stream = Stream::tls(stream, stream_errors);
        if direct && stream.alpn() != Some(ALPN.as_bytes()) {
            let text = match stream.alpn() {
                None => "direct TLS connection was established without ALPN protocol negotiation extension".to_owned(),
                Some(other) => format!("direct TLS connection was established with ALPN protocol {:?}", String::from_utf8_lossy(other)),
            };
            return Err(Failed::Retryable(refused(Refusal::Tls(TlsRefusal::NoAlpn), Stage::Handshake, text)));
        }
        Ok(stream)
    }

    /// Whether the server answered SSLRequest with `S`; an `N` that the plan can't go on with is a refusal.
    async fn ask_for_tls(&self, transport: &mut Transport, trace: &mut Trace) -> Result<bool, Failed> {
        trace.stage = Stage::SslRequest;
        let begun = Instant::now();
        let mut answer = [0];
        let exchange = async {
            transport.write_all(&SSL_REQUEST).await?;
            transport.flush().await?;
            transport.read_exact(&mut answer).await
        };
        exchange.await.map_err(|error| {
            let text = format!("waiting for the answer to SSLRequest: {}", with_causes(&error));
            Ended::from(refused(classify_io(&error, Stage::SslRequest), Stage::SslRequest, text))
        })?;
        trace.phases.sslrequest_ns = Some(nanoseconds(begun.elapsed()));
        match answer {
            [b'S'] => Ok(true),
            [b'N'] if self.plaintext_allowed => Ok(false),
            [b'N'] => {
                let text = "server does not support TLS, but the sslmode requires it".to_owned();
                Err(Ended::from(refused(Refusal::Tls(TlsRefusal::NotOffered), Stage::SslRequest, text)).into())
            }
            [other] => {
                let text = format!("invalid answer to SSLRequest: byte {other:#04x}, neither S nor N");
                Err(Ended::from(refused(Refusal::Tls(TlsRefusal::NotTls), Stage::SslRequest, text)).into())
            }
        }
    }

    /// Reads the files, in libpq's order: roots, certificate, key.
    fn connector(&self) -> Result<(TlsConnector, ServerName<'static>), Failed> {
        let unusable = |error: tls::FileError| Failed::Retryable(refused(Refusal::File(error.refusal), Stage::Handshake, error.text));
        let files = &self.request.files;
        let mode = self.request.sslmode.unwrap_or(SslMode::Prefer);
        let roots = tls::read_roots(files.root.as_deref(), mode >= SslMode::VerifyCa).map_err(unusable)?;
        let verification = match roots {
            None => Verification::Nothing,
            Some(roots) if mode == SslMode::VerifyFull => Verification::ChainAndName(roots),
            // Any weaker mode verifies the chain too, once the file exists.
            Some(roots) => Verification::Chain(roots),
        };
        let credential = tls::read_client_credential(files, self.kit).map_err(unusable)?;
        let alpn = self.request.alpn.clone().unwrap_or_else(|| vec![ALPN.to_owned()]);
        let offer = TlsOffer { versions: self.versions, verification, credential, alpn };
        let config = self.kit.client_config(offer).map_err(|error| {
            Failed::Retryable(refused(classify_tls(&error, Stage::Handshake), Stage::Handshake, format!("TLS configuration: {error}")))
        })?;
        Ok((TlsConnector::from(config), self.server_name()))
    }

    /// The host name for SNI and verification. One that is neither DNS name nor address is replaced by the address: it goes without SNI,
    /// and `verify-full` refuses it by name.
    fn server_name(&self) -> ServerName<'static> {
        let endpoint = &self.request.endpoint;
        ServerName::try_from(endpoint.host.clone()).unwrap_or_else(|_| match &endpoint.address {
            Address::Tcp(address) => ServerName::IpAddress(address.ip().into()),
            Address::Unix { .. } => ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()),
        })
    }

    /// Startup packet to ReadyForQuery, then the first query.
    async fn start(
        &self,
        stream: Stream,
        mut session: Session,
        stream_errors: &SharedStreamErrors,
        trace: &mut Trace,
    ) -> Result<Established, Failed> {
        trace.stage = Stage::Authentication;
        let watch = SharedWatch::default();
        let begun = Instant::now();
        let started = self.config().connect_raw(Watched::new(stream, watch.clone()), HandshakeDone).await;
        let (client, connection) = started.map_err(|error| self.startup_failure(&error, stream_errors, &watch))?;
        trace.phases.auth_ns = Some(nanoseconds(begun.elapsed()));
        trace.ready();

        let mut opened = PostgresSession::new(client, connection);
        let begun = Instant::now();
        session.server_view = Some(opened.server_view().await.map_err(Ended::from)?);
        trace.phases.query_ns = Some(nanoseconds(begun.elapsed()));
        Ok(Established { session, opened })
    }

    fn config(&self) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .user(&self.request.user)
            .dbname(&self.request.database)
            .application_name(self.driver)
            .ssl_mode(WireSslMode::Require)
            .ssl_negotiation(WireSslNegotiation::Direct);
        if let Some(password) = self.password() {
            config.password(password);
        }
        config
    }

    /// An empty password counts as none, as for libpq.
    fn password(&self) -> Option<&str> {
        self.request.password.as_ref().map(Password::reveal).filter(|password| !password.is_empty())
    }

    fn startup_failure(&self, error: &tokio_postgres::Error, stream_errors: &SharedStreamErrors, watch: &SharedWatch) -> Failed {
        let watch = watch.lock();
        let stream_errors = stream_errors.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = with_causes(error);
        if let Some(error) = error.as_db_error() {
            let refused = Refused {
                sqlstate: Some(error.code().code().to_owned()),
                ..refused(classify_db_error(error, Stage::Authentication), Stage::Authentication, text)
            };
            return if watch.authenticated { Failed::Final(refused.into()) } else { Failed::Retryable(refused) };
        }
        let (refusal, stage) = if let Some(error) = &stream_errors.tls_error {
            // A TLS 1.3 server judges our certificate after we finished: its alert is the first thing it says.
            let stage = if stream_errors.heard { Stage::Authentication } else { Stage::PostHandshake };
            (classify_tls(error, stage), stage)
        } else if watch.password_wanted && self.password().is_none() {
            (Refusal::Auth(AuthRefusal::NoPassword), Stage::Authentication)
        } else {
            (classify_protocol_error(error, Stage::Authentication), Stage::Authentication)
        };
        Failed::Final(refused(refusal, stage, text).into())
    }
}

fn refused(refusal: Refusal, stage: Stage, text: String) -> Refused {
    Refused { refusal, stage: Some(stage), sqlstate: None, text }
}
