//! Installations with real servers, over the shipped manifests.

mod faults;
mod gateway;
mod lifetime;
mod operator;
mod postgres;
mod redis;
mod replication;
mod site;

use std::sync::Mutex;

use rustls::pki_types::UnixTime;
use sha2::{Digest as _, Sha256};
use tokio_postgres::Client;

use super::*;
use crate::{Applied, StartCause};
use deployment::Manifests;
use model::change::{Change, Content, CrlOf, Label, Overwrite, Reissue, Target};
use model::connect::ClientFiles;
use model::credential::{SecretFile, Validity};

const LIMIT: Duration = Duration::from_secs(10);

const CLIENT: &str = "nautobot-mtls-client";
const SERVER: &str = "nautobot-cluster-server-tls";
const REDIS_SERVER: &str = "nautobot-redis-server-tls";
const CA: &str = "mtls-ca";
/// The Certificate whose Secret PostgreSQL and Redis have their CA from.
const CA_COPY: &str = "mtls-ca-cert";

/// Installations of the deployment in the folder `kind`.
pub(super) fn template() -> InstallationTemplate {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/deployment");
    InstallationTemplate { manifests: Arc::new(Manifests::load(&directory).expect("the shipped manifests are valid")), client: None }
}

/// An environment that can make installations of it.
fn fixture() -> Fixture {
    Fixture::with(|options, _| options.template = Some(template()))
}

/// PostgreSQL 17, or another where it is not installed.
fn postgres() -> ServerKey {
    let majors: Vec<u16> = toolchain().postgres.iter().map(|build| build.major).collect();
    postgres_key(if majors.contains(&17) { 17 } else { majors[0] })
}

pub(super) fn options(key: ServerKey) -> InstallOptions {
    InstallOptions { key, config: ServerConfig::default(), with: Vec::new(), setup: Vec::new(), setup_limit: LIMIT }
}

async fn install(fixture: &Fixture, key: ServerKey) -> Arc<dyn Installation> {
    fixture.environment.install(&options(key)).await.expect("it is installed")
}

fn reissue(certificate: &str) -> Reissue<String> {
    Reissue { certificate: certificate.to_owned(), validity: None, patch: None }
}

fn renew(certificate: &str) -> Change<String> {
    Change::Renew(reissue(certificate))
}

fn rekey(certificate: &str) -> Change<String> {
    Change::Rekey(reissue(certificate))
}

fn overwrite(secret: &str, key: SecretFile, with: Content<String>) -> Change<String> {
    Change::Overwrite(Overwrite { secret: secret.to_owned(), key, with })
}

fn label(secret: &str, value: Option<&str>) -> Change<String> {
    Change::Label(Label { secret: secret.to_owned(), label: "cnpg.io/reload".to_owned(), value: value.map(str::to_owned) })
}

/// Makes changes that no target may object to.
async fn apply(installation: &Arc<dyn Installation>, changes: impl IntoIterator<Item = Change<String>>) {
    for change in changes {
        let applied = installation.apply(&change).await.unwrap_or_else(|error| panic!("{change}: {error}"));
        assert_eq!(applied, Applied::default(), "{change}");
    }
}

/// What the target objects to a change.
async fn objection(installation: &Arc<dyn Installation>, change: Change<String>) -> String {
    let applied = installation.apply(&change).await.unwrap_or_else(|error| panic!("{change}: {error}"));
    applied.objection.unwrap_or_else(|| panic!("{change} is objected to"))
}

async fn error(installation: &Arc<dyn Installation>, change: Change<String>) -> String {
    installation.apply(&change).await.expect_err(&change.to_string()).to_string()
}

/// The certificate and key that a mount holds now.
fn mounted(files: &ClientFiles) -> Pair {
    let read = |path: &Option<PathBuf>| std::fs::read_to_string(path.as_ref().expect("a path")).expect("there");
    Pair { certificate: read(&files.certificate), key: read(&files.key) }
}

fn client_pair(installation: &Arc<dyn Installation>) -> Pair {
    mounted(&installation.mount(Target::Client).expect("clients mount a Secret"))
}

/// SHA-256 of the certificate that the server shows last, in hex.
#[derive(Debug, Clone, Default)]
struct Shown(Arc<Mutex<Option<String>>>);

impl Shown {
    fn sha256(&self) -> Option<String> {
        self.0.lock().expect("no panic").clone()
    }

    /// The mount's certificate and key, trusting anybody and remembering whom.
    fn config(&self, pair: &Pair) -> rustls::ClientConfig {
        let mut config = client_config(Some(pair));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        config.dangerous().set_certificate_verifier(Arc::new(Remembers(TrustsAnybody(provider), self.clone())));
        config
    }
}

#[derive(Debug)]
struct Remembers(TrustsAnybody, Shown);

impl rustls::client::danger::ServerCertVerifier for Remembers {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        let sha256 = Sha256::digest(leaf.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect();
        *self.1.0.lock().expect("no panic") = Some(sha256);
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A session with PostgreSQL, and the certificate that the server showed.
async fn session(installation: &Arc<dyn Installation>) -> Result<(Client, String), ClientError> {
    let address = installation.server(Target::Postgres).expect("a PostgreSQL").address();
    let shown = Shown::default();
    let mut config = tokio_postgres::Config::new();
    config.user("app").dbname("app").ssl_mode(tokio_postgres::config::SslMode::Require);
    let stream = TcpStream::connect(address).await?;
    let mut connector = tokio_postgres_rustls::MakeRustlsConnect::new(shown.config(&client_pair(installation)));
    let connector = tokio_postgres::tls::MakeTlsConnect::<TcpStream>::make_tls_connect(&mut connector, "localhost").expect("a connector");
    let (client, connection) = config.connect_raw(stream, connector).await?;
    tokio::spawn(connection);
    client.simple_query("SELECT 1").await?;
    Ok((client, shown.sha256().expect("a certificate")))
}

/// The certificate that PostgreSQL shows to a new session, which it takes.
async fn shown(installation: &Arc<dyn Installation>) -> String {
    session(installation).await.expect("a session").1
}

fn sha256(installation: &Arc<dyn Installation>, certificate: &str) -> String {
    installation.certificate_sha256(certificate).unwrap_or_else(|| panic!("{certificate} is known"))
}
