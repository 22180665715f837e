//! The driver `redis-rs`: redis over tokio-rustls, on our own socket and TLS stream.
//!
//! `redis::Client` would reload the system's roots for every connection; `MultiplexedConnection` takes any stream. `AUTH` and `PING` are
//! sent as commands of their own, so that each has its time and the server's error code.

mod refusal;
mod session;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::{
    self, Ended, KxGroups, SharedStreamErrors, Stream, TlsKit, TlsOffer, Trace, Transport, Unsupported, Verification, classify_io,
    classify_tls, locked, nanoseconds,
};
use super::{Driver, DriverError, Opened, UnableError};
use model::causes::with_causes;
use model::connect::{ConnectRequest, RedisRequest, RedisTls};
use model::driver::{DriverInfo, Family};
use model::endpoint::Address;
use model::observation::{ClientObservation, Session};
use model::refusal::{OptionRefusal, Refusal, Stage};
use model::server::Service;
use refusal::refused;
use session::RedisSession;

/// The name in scenarios.
pub const NAME: &str = "redis-rs";

/// The driver. Cheap: it holds no connection and starts nothing.
#[derive(Debug)]
pub struct RedisDriver {
    info: DriverInfo,
    kit: TlsKit,
}

impl Default for RedisDriver {
    fn default() -> Self {
        Self::new()
    }
}

impl RedisDriver {
    /// A driver named `redis-rs`.
    #[must_use]
    pub fn new() -> Self {
        let tls_library = format!("{} with {}", locked("rustls"), locked("aws-lc-rs"));
        Self {
            info: DriverInfo {
                name: NAME.to_owned(),
                service: Service::Redis,
                family: Family::RedisRs,
                libpq: None,
                version: format!("{}, {tls_library}", locked("redis")),
                tls_library: Some(tls_library),
            },
            kit: TlsKit::new(KxGroups::ProviderDefault),
        }
    }

    async fn run(&self, request: &RedisRequest, trace: &mut Trace) -> Result<(Session, RedisSession), Ended> {
        let connector = self.connector(request)?;
        let Address::Tcp(address) = &request.endpoint.address else {
            return Err(unable(UnableError::TcpOnly).into());
        };
        trace.restart();
        let begun = Instant::now();
        let transport = tls::connect_tcp(NAME, *address).await?;
        trace.phases.tcp_ns = Some(nanoseconds(begun.elapsed()));
        let stream_errors = tls::shared_stream_errors();
        let stream = match connector {
            None => Stream::plain(transport, SharedStreamErrors::clone(&stream_errors)),
            Some((connector, name)) => {
                Stream::tls(handshake(&connector, name, transport, trace).await?, SharedStreamErrors::clone(&stream_errors))
            }
        };
        let session = stream.session();
        let mut opened = RedisSession::new(stream, stream_errors).await?;
        opened.begin(request, trace).await?;
        Ok((session, opened))
    }

    /// Reads the files before connecting, as Redis clients do.
    fn connector(&self, request: &RedisRequest) -> Result<Option<(TlsConnector, ServerName<'static>)>, Ended> {
        if !request.env.is_empty() {
            return Err(unable(UnableError::NoConfigurationFile).into());
        }
        let versions = tls::versions(request.min_tls, request.max_tls).map_err(|unsupported| match unsupported {
            Unsupported::Version(version) => unable(UnableError::TlsVersion(version)).into(),
            Unsupported::Range(..) => {
                Ended::from(refused(Refusal::Option(OptionRefusal::InvalidValue), Stage::Options, unsupported.to_string()))
            }
        })?;
        let verify = match request.tls.unwrap_or_default() {
            RedisTls::Off => return Ok(None),
            RedisTls::NoVerify => None,
            RedisTls::VerifyCa => Some(false),
            RedisTls::VerifyFull => Some(true),
        };
        let unusable = |error: tls::FileError| Ended::from(refused(Refusal::File(error.refusal), Stage::Options, error.text));
        let verification = match verify {
            None => Verification::Nothing,
            Some(check_name) => {
                // A client that verifies and was given no file trusts the system's roots; none of those signs a private CA's servers.
                let path = request.files.root.as_deref();
                let roots = tls::read_roots(path, path.is_some()).map_err(unusable)?.unwrap_or_else(RootCertStore::empty);
                if check_name { Verification::ChainAndName(roots) } else { Verification::Chain(roots) }
            }
        };
        let credential = tls::require_client_credential(&request.files, &self.kit).map_err(unusable)?;
        let offer = TlsOffer { versions, verification, credential, alpn: Vec::new() };
        let config = self.kit.client_config(offer).map_err(|error| {
            Ended::from(refused(classify_tls(&error, Stage::Options), Stage::Options, format!("TLS configuration: {error}")))
        })?;
        let name = ServerName::try_from(request.endpoint.host.clone()).map_err(|error| {
            let text = format!("host name {:?} can't be verified: {error}", request.endpoint.host);
            Ended::from(refused(Refusal::Option(OptionRefusal::InvalidValue), Stage::Options, text))
        })?;
        Ok(Some((TlsConnector::from(config), name)))
    }
}

async fn handshake(
    connector: &TlsConnector,
    name: ServerName<'static>,
    transport: Transport,
    trace: &mut Trace,
) -> Result<tokio_rustls::client::TlsStream<Transport>, Ended> {
    trace.stage = Stage::Handshake;
    let begun = Instant::now();
    let stream = connector.connect(name, transport).await.map_err(|error| {
        let text = format!("TLS handshake: {}", with_causes(&error));
        Ended::from(refused(classify_io(&error, Stage::Handshake), Stage::Handshake, text))
    })?;
    trace.phases.tls_ns = Some(nanoseconds(begun.elapsed()));
    Ok(stream)
}

fn unable(cause: UnableError) -> DriverError {
    DriverError::unable(NAME, cause)
}

#[async_trait]
impl Driver for RedisDriver {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    async fn connect(&self, request: &ConnectRequest, limit: Duration) -> Result<ClientObservation, DriverError> {
        let deadline = tokio::time::Instant::now() + limit;
        Ok(self.open(request, limit).await?.closed(deadline).await)
    }

    async fn open(&self, request: &ConnectRequest, limit: Duration) -> Result<Opened, DriverError> {
        let ConnectRequest::Redis(request) = request else {
            return Err(unable(UnableError::RedisOnly));
        };
        let mut trace = Trace::start();
        let result = timeout(limit, self.run(request, &mut trace)).await.ok();
        trace.opened(result, limit)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use std::collections::BTreeMap;

    use super::*;
    use model::connect::{ClientFiles, Password};
    use model::endpoint::Endpoint;
    use model::observation::{ClientOutcome, Refused};
    use model::refusal::{AuthRefusal, ServerState};

    /// The refusal by a plain peer that answers the first packet with `reply`; `None` never answers.
    async fn refusal(reply: Option<&'static [u8]>, tls: RedisTls, limit: Duration) -> Refused {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = Address::Tcp(listener.local_addr().expect("an address"));
        let peer = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let _ = stream.read(&mut [0; 1024]).await;
            match reply {
                Some(reply) => stream.write_all(reply).await.expect("answered"),
                None => std::future::pending().await,
            }
        });
        let request = RedisRequest {
            endpoint: Endpoint { host: "redis.example".to_owned(), address },
            tls: Some(tls),
            files: ClientFiles::default(),
            password: Some(Password::new("secret")),
            min_tls: None,
            max_tls: None,
            env: BTreeMap::new(),
        };
        let observation = RedisDriver::new().connect(&ConnectRequest::Redis(request), limit).await.expect("an observation");
        peer.abort();
        match observation.outcome {
            ClientOutcome::Refused(refused) => refused,
            ClientOutcome::Session(session) => panic!("no refusal but {session:?}"),
        }
    }

    const LIMIT: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn each_error_reply_has_its_class_by_its_code() {
        for (reply, class) in [
            (&b"-NOAUTH Authentication required.\r\n"[..], Refusal::Auth(AuthRefusal::RedisNoAuth)),
            (&b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"[..], Refusal::Auth(AuthRefusal::RedisWrongPassword)),
            (
                &b"-ERR AUTH <password> called without any password configured for the default user.\r\n"[..],
                Refusal::Auth(AuthRefusal::Other),
            ),
            (&b"-LOADING Redis is loading the dataset in memory\r\n"[..], Refusal::Server(ServerState::StartingUp)),
        ] {
            let refused = refusal(Some(reply), RedisTls::Off, LIMIT).await;
            assert_eq!(refused.refusal, class, "{}", refused.text);
            assert_eq!(refused.stage, Some(Stage::Authentication));
        }
    }

    #[tokio::test]
    async fn tls_towards_a_plain_port_ends_at_the_limit_and_towards_garbage_at_once() {
        let refused = refusal(None, RedisTls::NoVerify, Duration::from_millis(50)).await;
        assert_eq!(refused.refusal, Refusal::TimedOut(Stage::Handshake));
        let refused = refusal(Some(b"-ERR unknown command\r\n"), RedisTls::NoVerify, LIMIT).await;
        assert_eq!(refused.refusal, Refusal::Tls(model::refusal::TlsRefusal::NotTls));
    }

    #[tokio::test]
    async fn a_peer_that_closes_without_a_word_closed_at_authentication() {
        let refused = refusal(Some(b""), RedisTls::Off, LIMIT).await;
        assert_eq!(refused.refusal, Refusal::Closed(Stage::Authentication));
    }
}
