//! The local environment with real servers, and with broken ones.

mod broken;
mod gateway;
mod installation;
mod leaks;
mod postgres;
mod redis;
mod roles;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::*;
use crate::servers::{ConfigFile, Paths};
use crate::{ConfigError, Environment, Gateway, InstallOptions, Installation};
use deployment::gateway::TlsRoute;
use model::claim::Subject;
use model::connect::Password;
use model::outcome::SkipReason;
use model::server::{DeploymentKind, ServerConfig};
use model::server::{ServerKey, Service};
use os::toolchain::{POSTGRES_MAJORS, PostgresBuild, Tool};
use pki::PkiError;

/// Why a client got no session, or no answer in it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Postgres(#[from] tokio_postgres::Error),
    #[error("{command}: {answer:?}")]
    Answer { command: String, answer: String },
}

impl ClientError {
    /// Whether this is said anywhere in it: alerts stand in the causes alone.
    pub(super) fn contains(&self, text: &str) -> bool {
        format!("{self}: {self:?}").contains(text)
    }
}

/// What a configurator says to a name that nothing has.
pub(super) fn unknown(kind: &'static str, name: &str) -> ConfigError {
    PkiError::Unknown { kind, name: name.to_owned(), known: "there are none".to_owned() }.into()
}

/// A certificate with its key, PEM.
pub(super) struct Pair {
    certificate: String,
    key: String,
}

/// A CA, a server certificate and a client certificate; and a configurator that uses them as plainly as can be.
pub(super) struct TestConfigurator {
    ca: String,
    other_ca: String,
    server: Pair,
    pub(super) app: Pair,
}

impl TestConfigurator {
    pub(super) fn new() -> Self {
        let ca = issuer("test-ca");
        let other_ca = issuer("other-ca");
        Self {
            server: leaf("server", &ca, ExtendedKeyUsagePurpose::ServerAuth),
            app: leaf("app", &ca, ExtendedKeyUsagePurpose::ClientAuth),
            ca: ca.pem(),
            other_ca: other_ca.pem(),
        }
    }
}

fn issuer(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

fn leaf(name: &str, issuer: &CertifiedIssuer<'static, KeyPair>, usage: ExtendedKeyUsagePurpose) -> Pair {
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().expect("a key");
    Pair { certificate: params.signed_by(&key, issuer).expect("a certificate").pem(), key: key.serialize_pem() }
}

impl Configurator for TestConfigurator {
    fn route(&self, service: Service) -> Option<TlsRoute> {
        (service == Service::Redis).then(|| TlsRoute {
            name: "redis".to_owned(),
            service,
            hosts: vec!["redis.example.com".to_owned()],
            port: 6379,
            backend: "redis".to_owned(),
            place: load::Place::file(Path::new("test")),
        })
    }

    fn files(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
        let certificate = |name: &str| paths.certificates.join(name);
        let ca = match config.client_ca.as_deref() {
            None => self.ca.as_str(),
            Some("other") => self.other_ca.as_str(),
            Some("garbage") => "garbage",
            Some(other) => return Err(unknown("trust", other)),
        };
        let file = |path: PathBuf, contents: &str, mode| ConfigFile::of_server(path, contents, mode);
        let mut files = vec![
            file(certificate("server.crt"), &self.server.certificate, 0o644),
            file(certificate("server.key"), &self.server.key, 0o600),
            file(certificate("client-ca.crt"), ca, 0o644),
        ];
        let (crt, server_key, client_ca) = (certificate("server.crt"), certificate("server.key"), certificate("client-ca.crt"));
        if key.service == Service::Redis {
            let setting = |(name, value): (&String, &String)| match name.as_str() {
                "port" => format!("port {}\n", paths.plaintext_port),
                name => format!("{name} {value}\n"),
            };
            let settings: String = config.settings.iter().map(setting).collect();
            let text = format!(
                "tls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients yes\nrequirepass {}\n{settings}",
                crt.display(),
                server_key.display(),
                client_ca.display(),
                paths.password.reveal()
            );
            files.push(file(paths.data.join("redis.conf"), &text, 0o600));
            return Ok(files);
        }
        let settings: String = config.settings.iter().map(|(name, value)| format!("{name} = '{value}'\n")).collect();
        let text = format!(
            "ssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'\nssl_ca_file = '{}'\n{settings}",
            crt.display(),
            server_key.display(),
            client_ca.display()
        );
        let rules = config.pg_hba.clone().unwrap_or_else(|| vec!["hostssl all all all cert".to_owned()]).join("\n") + "\n";
        files.push(file(paths.data.join("postgresql.conf"), &text, 0o644));
        files.push(file(paths.data.join("pg_hba.conf"), &rules, 0o644));
        Ok(files)
    }
}

/// An environment in a directory of its own, with a cache of its own or the common one.
pub(super) struct Fixture {
    pub(super) environment: Servers,
    pub(super) configurator: Arc<TestConfigurator>,
    pub(super) run: TempDir,
}

impl Fixture {
    pub(super) fn new() -> Self {
        Self::with(|_, _| {})
    }

    /// `change` may change the options, given the run directory.
    pub(super) fn with(change: impl FnOnce(&mut LocalOptions, &Path)) -> Self {
        let run = run_directory();
        let configurator = Arc::new(TestConfigurator::new());
        let mut options = LocalOptions::new(toolchain(), run.path(), cache(), Arc::clone(&configurator) as Arc<dyn Configurator>);
        change(&mut options, run.path());
        Self { environment: environment(options).expect("randomness"), configurator, run }
    }
}

pub(super) fn run_directory() -> TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let run = tempfile::Builder::new().prefix("mtls-test-").tempdir_in("/dev/shm").expect("a directory");
    std::fs::set_permissions(run.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    run
}

/// A cache that outlives the tests: they share what initdb makes, also from run to run.
fn cache() -> PathBuf {
    std::env::temp_dir().join(format!("mtls-conformance-test-initdb-{}", nix::unistd::geteuid()))
}

/// What is installed: the toolchain's builds, and the distribution's.
///
/// `MTLS_CONFORMANCE_TEST_POSTGRES=16=/path/to/bin,17=...` adds builds.
pub(super) fn toolchain() -> Toolchain {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut toolchain = Toolchain::find(&repository.join(".toolchain"));
    let more = std::env::var("MTLS_CONFORMANCE_TEST_POSTGRES").unwrap_or_default();
    let more =
        more.split(',').filter_map(|pair| pair.split_once('=')).map(|(major, bin)| (major.parse().expect("a version"), PathBuf::from(bin)));
    let distribution = POSTGRES_MAJORS.iter().map(|major| (*major, PathBuf::from(format!("/usr/lib/postgresql/{major}/bin"))));
    for (major, bin) in distribution.chain(more) {
        if bin.join("postgres").is_file() && toolchain.postgres.iter().all(|build| build.major != major) {
            toolchain.postgres.push(PostgresBuild { major, version: major.to_string(), bin, origin: "test", openssl: None });
        }
    }
    let redis = PathBuf::from("/usr/bin/redis-server");
    if toolchain.redis.is_none() && redis.is_file() {
        toolchain.redis = Some(Tool { path: redis, version: "7.0".to_owned() });
    }
    assert!(!toolchain.postgres.is_empty() && toolchain.redis.is_some(), "these tests need a PostgreSQL and a Redis: `make setup`");
    toolchain
}

pub(super) fn postgres_key(major: u16) -> ServerKey {
    ServerKey { service: Service::Postgres, version: Some(major), deployment: DeploymentKind::Documented }
}

pub(super) fn redis_key() -> ServerKey {
    ServerKey { service: Service::Redis, version: None, deployment: DeploymentKind::Documented }
}

/// Some version that is installed.
pub(super) fn any_major() -> u16 {
    toolchain().postgres[0].major
}

/// A client configuration that trusts anybody: what these tests look at is the server.
pub(super) fn client_config(pair: Option<&Pair>) -> rustls::ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAnybody(provider)));
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")],
                PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key"),
            )
            .expect("they belong together"),
    };
    config.resumption = rustls::client::Resumption::disabled();
    config
}

/// Connects to PostgreSQL with the address's own stream; the local address, and what became of it.
pub(super) async fn connect_postgres(address: SocketAddr, pair: Option<&Pair>) -> (SocketAddr, Result<String, ClientError>) {
    let mut config = tokio_postgres::Config::new();
    config.user("app").dbname("app").ssl_mode(tokio_postgres::config::SslMode::Require);
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let local = stream.local_addr().expect("an address");
    let mut connector = tokio_postgres_rustls::MakeRustlsConnect::new(client_config(pair));
    let connector = tokio_postgres::tls::MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector, "localhost").expect("a connector");
    let session = async {
        let (client, connection) = config.connect_raw(stream, connector).await?;
        let connection = tokio::spawn(connection);
        let row = client.query_one("SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()", &[]).await?;
        drop(client);
        let _ = connection.await;
        row.try_get(0)
    };
    (local, session.await.map_err(|error: tokio_postgres::Error| error.into()))
}

/// Connects to Redis as far as the first answer.
pub(super) async fn ping_redis(address: SocketAddr, pair: Option<&Pair>, password: &Password) -> (SocketAddr, Result<String, ClientError>) {
    ping_redis_as("localhost", address, pair, password).await
}

/// What it answers to somebody who speaks no TLS; `None`: nothing listens there.
pub(super) async fn ping_redis_in_plaintext(address: SocketAddr, password: &Password) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("AUTH {}\r\nPING\r\nQUIT\r\n", password.reveal()).as_bytes()).await.expect("it takes it");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers and closes");
    Some(answer)
}

/// The same with a host name in the ClientHello.
pub(super) async fn ping_redis_as(
    host: &str,
    address: SocketAddr,
    pair: Option<&Pair>,
    password: &Password,
) -> (SocketAddr, Result<String, ClientError>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let stream = TcpStream::connect(address).await.expect("the server listens");
    let local = stream.local_addr().expect("an address");
    let session = async {
        let connector = tokio_rustls::TlsConnector::from(Arc::new(client_config(pair)));
        let mut stream = connector.connect(ServerName::try_from(host.to_owned()).expect("a name"), stream).await?;
        stream.write_all(format!("AUTH {}\r\nPING\r\n", password.reveal()).as_bytes()).await?;
        let mut answer = String::new();
        while !answer.contains("PONG") {
            let mut buffer = [0; 256];
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                break;
            }
            answer.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        Ok(answer)
    };
    (local, session.await.map_err(|error: io::Error| error.into()))
}

#[derive(Debug)]
struct TrustsAnybody(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[test]
fn what_is_not_installed_is_named_with_what_brings_it() {
    let fixture = Fixture::with(|options, _| {
        options.toolchain.postgres.retain(|build| build.major != 18);
        options.toolchain.missing.retain(|missing| missing.name != "postgres-18");
        options.toolchain.redis = None;
        options.toolchain.missing.push(os::toolchain::Missing {
            name: "redis".to_owned(),
            cost: "no claim about Redis; `apt install redis-server`".to_owned(),
            closed: false,
        });
    });
    let unable = fixture.environment.unable(postgres_key(18)).expect("it is missing");
    assert_eq!(unable, SkipReason::ServerMissing("PostgreSQL 18 is not installed: `make setup` brings it".to_owned()));
    let unable = fixture.environment.unable(redis_key()).expect("it is missing");
    assert!(unable.to_string().contains("apt install redis-server"), "{unable}");
    assert_eq!(fixture.environment.unable(postgres_key(any_major())), None);
    let components = fixture.environment.components();
    let redis = components.iter().find(|component| component.name == "redis").expect("it is listed");
    assert!(redis.version.is_none() && redis.missing.is_some());
}

#[tokio::test]
async fn after_close_no_server_is_given() {
    let fixture = Fixture::new();
    fixture.environment.close().await;
    let error = fixture.environment.server(postgres_key(any_major())).await.map(|_| ()).expect_err("closed");
    assert!(error.to_string().contains("closed"), "{error}");
}
