//! The driver against peers made for one behaviour each; real servers are the scenarios' business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;
use model::connect::{ClientFiles, SslMode, SslNegotiation, TlsVersion};
use model::endpoint::{Address, Endpoint};
use model::observation::ClientOutcome;
use model::refusal::{Alert, AuthRefusal, FileRefusal, TlsRefusal, VerifyFailure};

const LIMIT: Duration = Duration::from_secs(20);
/// SSLRequest and the start of a startup packet of protocol 3.0, as a server reads them.
const SSL_REQUEST_CODE: u32 = 80_877_103;
const STARTUP_CODE: u32 = 196_608;

/// A listener whose connections are all served by `serve`; its handle gives what each connection saw, once `count` are done.
async fn peer<T, F, Fut>(count: usize, serve: F) -> (Address, JoinHandle<Vec<T>>)
where
    T: Send + 'static,
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = T> + Send,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    let handle = tokio::spawn(async move {
        let mut seen = Vec::new();
        for _ in 0..count {
            let (stream, _) = listener.accept().await.expect("a connection");
            seen.push(serve(stream).await);
        }
        seen
    });
    (address, handle)
}

/// The code of a packet without a type byte: SSLRequest or the startup packet.
async fn read_code(stream: &mut TcpStream) -> u32 {
    let length = stream.read_u32().await.expect("a length");
    let code = stream.read_u32().await.expect("a code");
    let mut rest = vec![0; usize::try_from(length).expect("a size") - 8];
    stream.read_exact(&mut rest).await.expect("a packet");
    code
}

fn request(address: Address, sslmode: Option<SslMode>) -> PostgresRequest {
    PostgresRequest {
        endpoint: Endpoint { host: "pg.example".to_owned(), address },
        sslmode,
        sslnegotiation: None,
        files: ClientFiles::default(),
        user: "app".to_owned(),
        database: "app".to_owned(),
        password: None,
        min_tls: None,
        max_tls: None,
        alpn: None,
        replication: false,
        env: BTreeMap::new(),
    }
}

async fn refusal(request: PostgresRequest, limit: Duration) -> Refused {
    let driver = RustlsDriver::new(RustlsOptions::default());
    let observation = driver.connect(&ConnectRequest::Postgres(request), limit).await.expect("an observation");
    match observation.outcome {
        ClientOutcome::Refused(refused) => refused,
        ClientOutcome::Session(session) => panic!("no refusal but {session:?}"),
    }
}

#[tokio::test]
async fn after_an_n_prefer_goes_on_over_the_same_connection_and_require_gives_up() {
    const FATAL: &[u8] = b"E\x00\x00\x00\x50SFATAL\x00VFATAL\x00C28000\x00Mno pg_hba.conf entry for host \"127.0.0.1\", user \"a\"\x00\x00";
    let serve = |mut stream: TcpStream| async move {
        assert_eq!(read_code(&mut stream).await, SSL_REQUEST_CODE);
        stream.write_all(b"N").await.expect("answered");
        let mut next = [0; 8];
        if stream.read_exact(&mut next).await.is_err() {
            return None;
        }
        let mut fatal = FATAL.to_vec();
        fatal[4] = u8::try_from(FATAL.len() - 1).expect("short");
        stream.write_all(&fatal).await.expect("refused");
        Some(u32::from_be_bytes([next[4], next[5], next[6], next[7]]))
    };
    let (address, seen) = peer(2, serve).await;
    let prefer = refusal(request(address.clone(), None), LIMIT).await;
    assert_eq!(prefer.refusal, Refusal::Auth(AuthRefusal::NoHbaEntry));
    assert_eq!(prefer.sqlstate.as_deref(), Some("28000"));
    let require = refusal(request(address, Some(SslMode::Require)), LIMIT).await;
    assert_eq!(require.refusal, Refusal::Tls(TlsRefusal::NotOffered));
    assert_eq!(require.stage, Some(Stage::SslRequest));
    // Two connections in all: prefer sent its startup packet over the first one.
    assert_eq!(seen.await.expect("served"), [Some(STARTUP_CODE), None]);
}

#[tokio::test]
async fn credential_files_are_read_only_after_the_server_accepted_tls() {
    let directory = TempDir::new().expect("a directory");
    let missing = directory.path().join("root.crt");
    let serve = |mut stream: TcpStream| async move {
        let code = read_code(&mut stream).await;
        stream.write_all(b"S").await.expect("answered");
        (code, stream.read(&mut [0; 1]).await.expect("the end"))
    };
    let (address, seen) = peer(1, serve).await;
    let mut request = request(address, Some(SslMode::VerifyFull));
    request.files.root = Some(missing);
    let refused = refusal(request, LIMIT).await;
    assert_eq!(refused.refusal, Refusal::File(FileRefusal::RootMissing));
    assert_eq!(seen.await.expect("served"), [(SSL_REQUEST_CODE, 0)]);
}

#[tokio::test]
async fn a_weak_mode_with_direct_negotiation_opens_no_connection() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let mut request = request(Address::Tcp(listener.local_addr().expect("an address")), None);
    request.sslnegotiation = Some(SslNegotiation::Direct);
    let refused = refusal(request, LIMIT).await;
    assert_eq!(refused.refusal, Refusal::Option(OptionRefusal::WeakSslmodeDirect));
    // A connection would be waiting to be accepted.
    assert!(timeout(Duration::ZERO, listener.accept()).await.is_err());
}

#[tokio::test]
async fn a_silent_server_is_a_timeout_at_the_stage_it_fell_silent_in() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = Address::Tcp(listener.local_addr().expect("an address"));
    let limit = Duration::from_millis(50);
    let refused = refusal(request(address.clone(), Some(SslMode::Require)), limit).await;
    assert_eq!(refused.refusal, Refusal::TimedOut(Stage::SslRequest));
    let refused = refusal(request(address, Some(SslMode::Disable)), limit).await;
    assert_eq!(refused.refusal, Refusal::TimedOut(Stage::Authentication));
}

#[tokio::test]
async fn an_answer_that_is_neither_s_nor_n_is_not_tls_and_a_close_is_a_close() {
    let (address, _) = peer(1, |mut stream: TcpStream| async move { stream.write_all(b"-ERR").await }).await;
    let refused = refusal(request(address, Some(SslMode::Require)), LIMIT).await;
    assert_eq!(refused.refusal, Refusal::Tls(TlsRefusal::NotTls));
    let (address, _) = peer(1, |mut stream: TcpStream| async move { read_code(&mut stream).await }).await;
    let refused = refusal(request(address, Some(SslMode::Require)), LIMIT).await;
    assert_eq!(refused.refusal, Refusal::Closed(Stage::SslRequest));
}

/// A TLS server with a certificate of its own for `pg.example`.
struct TlsPeer {
    directory: TempDir,
    acceptor: TlsAcceptor,
}

impl TlsPeer {
    /// `wants_certificate` refuses clients without one, as Redis does.
    fn new(wants_certificate: bool, alpn: &[&str]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut ca = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_key = rcgen::KeyPair::generate().expect("a key");
        let ca_certificate = ca.self_signed(&ca_key).expect("a certificate");
        std::fs::write(directory.path().join("ca.crt"), ca_certificate.pem()).expect("written");
        let key = rcgen::KeyPair::generate().expect("a key");
        let leaf = rcgen::CertificateParams::new(["pg.example".to_owned()]).expect("parameters");
        let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).expect("a certificate");

        let provider = Arc::clone(TlsKit::new(KxGroups::ProviderDefault).provider());
        let mut roots = RootCertStore::empty();
        roots.add(ca_certificate.der().clone()).expect("a root");
        let verifier = if wants_certificate {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("a verifier")
        } else {
            WebPkiClientVerifier::no_client_auth()
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).expect("a key"))
            .expect("a configuration");
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { directory, acceptor: TlsAcceptor::from(Arc::new(config)) }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("ca.crt")
    }

    /// Answers SSLRequest, shakes hands and closes.
    async fn listen(&self, connections: usize) -> Address {
        let acceptor = self.acceptor.clone();
        let serve = move |mut stream: TcpStream| {
            let acceptor = acceptor.clone();
            async move {
                let mut first = [0];
                stream.peek(&mut first).await.expect("a first byte");
                // A ClientHello begins with 0x16.
                if first != [0x16] {
                    read_code(&mut stream).await;
                    stream.write_all(b"S").await.expect("answered");
                }
                let _ = acceptor.accept(stream).await;
            }
        };
        peer(connections, serve).await.0
    }

    async fn refusal(&self, address: Address, mode: SslMode, host: &str, root: Option<&Path>) -> Refused {
        let mut request = request(address, Some(mode));
        request.endpoint.host = host.to_owned();
        request.files.root = root.map(Path::to_path_buf);
        refusal(request, LIMIT).await
    }
}

/// What a refusal is when the handshake went through: the peer closes afterwards.
const SHOOK_HANDS: Refusal = Refusal::Closed(Stage::Authentication);

#[tokio::test]
async fn a_root_file_makes_require_verify_the_chain_and_only_verify_full_looks_at_the_name() {
    let peer = TlsPeer::new(false, &[]);
    let foreign = TlsPeer::new(false, &[]);
    let address = peer.listen(6).await;
    let unknown = Refusal::Verify(VerifyFailure::UnknownCa);
    let name = Refusal::Verify(VerifyFailure::HostName);
    for (mode, host, root, expected) in [
        (SslMode::Require, "pg.example", None, SHOOK_HANDS),
        (SslMode::Require, "pg.example", Some(&*foreign.root()), unknown),
        (SslMode::Require, "other.example", Some(&*peer.root()), SHOOK_HANDS),
        (SslMode::VerifyCa, "other.example", Some(&*peer.root()), SHOOK_HANDS),
        (SslMode::VerifyFull, "other.example", Some(&*peer.root()), name),
        (SslMode::VerifyFull, "pg.example", Some(&*peer.root()), SHOOK_HANDS),
    ] {
        let refused = peer.refusal(address.clone(), mode, host, root).await;
        assert_eq!(refused.refusal, expected, "{mode} {host}: {}", refused.text);
    }
}

#[tokio::test]
async fn a_certificate_refused_under_tls_1_3_is_an_alert_after_the_handshake_and_under_1_2_during_it() {
    let peer = TlsPeer::new(true, &[]);
    let address = peer.listen(2).await;
    for (version, stage) in [(TlsVersion::V1_3, Stage::PostHandshake), (TlsVersion::V1_2, Stage::Handshake)] {
        let mut request = request(address.clone(), Some(SslMode::Require));
        request.min_tls = Some(version);
        request.max_tls = Some(version);
        let refused = refusal(request, LIMIT).await;
        assert!(matches!(refused.refusal, Refusal::Alert(Alert::CertificateRequired | Alert::HandshakeFailure)), "{refused:?}");
        assert_eq!(refused.stage, Some(stage), "{}", refused.text);
    }
}

#[tokio::test]
async fn direct_negotiation_insists_on_alpn_and_the_traditional_one_does_not() {
    for (alpn, negotiation, expected) in [
        (&[][..], SslNegotiation::Direct, Refusal::Tls(TlsRefusal::NoAlpn)),
        (&[][..], SslNegotiation::Postgres, SHOOK_HANDS),
        (&["postgresql"][..], SslNegotiation::Direct, SHOOK_HANDS),
        (&["http/1.1"][..], SslNegotiation::Postgres, Refusal::Alert(Alert::NoApplicationProtocol)),
    ] {
        let address = TlsPeer::new(false, alpn).listen(1).await;
        let mut request = request(address, Some(SslMode::Require));
        request.sslnegotiation = Some(negotiation);
        let refused = refusal(request, LIMIT).await;
        assert_eq!(refused.refusal, expected, "{alpn:?}: {}", refused.text);
    }
}
