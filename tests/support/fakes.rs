//! A deployment made of nothing: a server that speaks the first two messages of PostgreSQL's protocol, and a driver for it. Who the
//! client says to be decides what happens to it (see [`Act`]).

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use driver::{BrokenError, Driver, DriverError, UnableError};
use environment::{
    Applied, CommandError, Environment, EnvironmentError, Gateway, InstallOptions, Installation, LogCondition, MachineError, Replication,
    Server,
};
use model::change::{Change, Target};
use model::claim::Subject;
use model::connect::{ClientFiles, ConnectRequest, Password};
use model::driver::{DriverInfo, Family};
use model::endpoint::Address;
use model::network::Networks;
use model::observation::{ClientObservation, ClientOutcome, LogLine, Phases, Refused, ServerView, Session};
use model::outcome::SkipReason;
use model::refusal::{AuthRefusal, Refusal};
use model::report::Component;
use model::server::{Application, ServerConfig, ServerKey, Service};
use os::command::{CommandRun, RunError};
use os::dial::{Dialer, Direct};
use run::credentials::{CredentialError, CredentialSource};

/// What the user's name makes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// `refused`: an ErrorResponse, `no pg_hba.conf entry`.
    Refuse,
    /// `panics`: the driver panics.
    Panic,
    /// `hangs`: the driver never answers.
    Hang,
    /// `breaks`: the driver's own error.
    Break,
    /// `unable`: the driver can't do that.
    Unable,
    /// `waits`: a session, once the test opens the gate.
    Wait,
    /// Anybody else: a plaintext session.
    Accept,
}

impl Act {
    fn of(user: &str) -> Self {
        match user {
            "refused" => Self::Refuse,
            "panics" => Self::Panic,
            "hangs" => Self::Hang,
            "breaks" => Self::Break,
            "unable" => Self::Unable,
            "waits" => Self::Wait,
            _ => Self::Accept,
        }
    }
}

/// What every fake driver is called.
pub(crate) const DRIVER: &str = "fake";

/// The driver as scenarios know it.
pub(crate) fn driver_info() -> DriverInfo {
    DriverInfo {
        name: DRIVER.to_owned(),
        service: Service::Postgres,
        family: Family::Other,
        libpq: None,
        version: "fake".to_owned(),
        tls_library: None,
    }
}

/// Makes one connection, and says what it saw.
pub(crate) struct FakeDriver {
    info: DriverInfo,
    gate: watch::Receiver<bool>,
}

impl FakeDriver {
    /// `gate` turning true lets the user `waits` go on.
    pub(crate) fn new(gate: watch::Receiver<bool>) -> Self {
        Self { info: driver_info(), gate }
    }
}

#[async_trait]
impl Driver for FakeDriver {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    async fn connect(&self, request: &ConnectRequest, _: Duration) -> Result<ClientObservation, DriverError> {
        let ConnectRequest::Postgres(request) = request else { panic!("a fake PostgreSQL client was asked for Redis") };
        match Act::of(&request.user) {
            Act::Panic => panic!("the driver panics, as it was told"),
            Act::Hang => std::future::pending().await,
            Act::Break => {
                return Err(DriverError::broken(DRIVER, BrokenError::Reported("it fell over; its log: fake.log".to_owned())));
            }
            Act::Unable => return Err(DriverError::unable(DRIVER, UnableError::Reported("it never learnt that".to_owned()))),
            Act::Wait => {
                self.gate.clone().wait_for(|open| *open).await.expect("the test holds the gate");
            }
            Act::Accept | Act::Refuse => {}
        }
        let Address::Tcp(address) = &request.endpoint.address else { panic!("the fake server has no unix socket") };
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("the relay listens");
        stream.write_all(&startup(&request.user)).await.expect("the relay reads");
        let mut answer = vec![0; 1];
        stream.read_exact(&mut answer).await.expect("the server answers");
        let outcome = if answer == b"R" {
            ClientOutcome::Session(Session {
                tls: false,
                version: None,
                cipher: None,
                alpn: None,
                server_certificate: None,
                server_view: Some(ServerView { ssl: false, user: Some(request.user.clone()), ..ServerView::default() }),
            })
        } else {
            ClientOutcome::Refused(Refused {
                refusal: Refusal::Auth(AuthRefusal::NoHbaEntry),
                stage: None,
                sqlstate: Some("28000".to_owned()),
                text: "FATAL: no pg_hba.conf entry".to_owned(),
            })
        };
        Ok(ClientObservation { outcome, phases: Phases { connect_ns: Some(1_000_000), ..Phases::default() }, settings: BTreeMap::new() })
    }
}

/// A StartupMessage of protocol 3.0.
fn startup(user: &str) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    body.extend(format!("user\0{user}\0\0").bytes());
    let length = u32::try_from(body.len() + 4).expect("short");
    [length.to_be_bytes().to_vec(), body].concat()
}

/// Answers startup messages with AuthenticationOk or an ErrorResponse.
pub(crate) struct FakeServer {
    address: SocketAddr,
    log: Arc<Mutex<HashMap<SocketAddr, Vec<LogLine>>>>,
    /// What it says when it is to take a configuration.
    apply: Option<EnvironmentError>,
    /// What is said of it once it has served a connection.
    lost: Option<EnvironmentError>,
}

impl FakeServer {
    fn start(apply: Option<EnvironmentError>, lost: Option<EnvironmentError>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let log: Arc<Mutex<HashMap<SocketAddr, Vec<LogLine>>>> = Arc::default();
        let lines = Arc::clone(&log);
        // Lives as long as the test's process: it has nothing to close.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let lines = Arc::clone(&lines);
                std::thread::spawn(move || answer(stream, &lines));
            }
        });
        Self { address, log, apply, lost }
    }
}

/// A client that goes away in the middle is no concern of a fake.
fn answer(mut stream: std::net::TcpStream, log: &Mutex<HashMap<SocketAddr, Vec<LogLine>>>) {
    let Ok(peer) = stream.peer_addr() else { return };
    let mut length = [0; 4];
    if stream.read_exact(&mut length).is_err() {
        return;
    }
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).expect("fits") - 4];
    if stream.read_exact(&mut body).is_err() {
        return;
    }
    let text = String::from_utf8_lossy(&body[4..]).into_owned();
    let user = text.split('\0').nth(1).unwrap_or_default();
    let (message, reply): (String, &[u8]) = match Act::of(user) {
        Act::Refuse => (format!("no pg_hba.conf entry for host \"{}\"", peer.ip()), b"E\0\0\0\x13SFATAL\0C28000\0\0"),
        _ => (format!("connection authorized: user=somebody host={}", peer.ip()), b"R\0\0\0\x08\0\0\0\0"),
    };
    let line = LogLine { severity: "LOG".to_owned(), sqlstate: None, message, detail: None, peer: Some(peer) };
    log.lock().expect("no panic").insert(peer, vec![line]);
    if stream.write_all(reply).is_ok() {
        // Until the client leaves.
        let _ = stream.read(&mut [0; 16]);
    }
}

#[async_trait]
impl Server for FakeServer {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn address_v6(&self) -> Option<SocketAddr> {
        None
    }

    fn dialer(&self) -> Arc<dyn Dialer> {
        Arc::new(Direct)
    }

    fn unix_socket(&self) -> Result<Option<Address>, MachineError> {
        Ok(None)
    }

    fn password(&self) -> Password {
        Password::new("fake-password")
    }

    async fn log_lines(&self, peers: &[SocketAddr], _: LogCondition<'_>, _: Duration) -> Vec<LogLine> {
        let log = self.log.lock().expect("no panic");
        peers.iter().filter_map(|peer| log.get(peer)).flatten().cloned().collect()
    }

    async fn apply(&self, _: &ServerConfig) -> Result<(), EnvironmentError> {
        self.apply.clone().map_or(Ok(()), Err)
    }

    fn file(&self, _: &str) -> Option<PathBuf> {
        None
    }

    fn own_file(&self, _: &str) -> Option<PathBuf> {
        None
    }

    async fn openssl(&self, _: &[String], _: &[PathBuf], _: Duration) -> Result<CommandRun, CommandError> {
        let source = io::Error::new(io::ErrorKind::Unsupported, "a fake runs no commands");
        Err(RunError::Spawn { program: PathBuf::from("openssl"), source }.into())
    }

    fn log_path(&self) -> PathBuf {
        PathBuf::from("/nonexistent/fake.log")
    }

    fn log_mark(&self) -> u64 {
        0
    }

    async fn says_since(&self, _: u64, _: LogCondition<'_>, _: Duration) -> Vec<LogLine> {
        Vec::new()
    }

    async fn all_since(&self, _: u64, _: LogCondition<'_>, _: Duration) -> Vec<LogLine> {
        Vec::new()
    }

    async fn lost(&self) -> Option<EnvironmentError> {
        let served = !self.log.lock().expect("no panic").is_empty();
        self.lost.clone().filter(|_| served)
    }
}

/// Fake servers, one for each version of PostgreSQL that is asked for.
#[derive(Default)]
pub(crate) struct FakeEnvironment {
    /// Versions that it can't give, and why.
    pub(crate) unable: BTreeMap<u16, SkipReason>,
    /// Versions that don't start.
    pub(crate) broken: BTreeMap<u16, EnvironmentError>,
    /// Versions that take no configuration.
    pub(crate) stubborn: BTreeMap<u16, EnvironmentError>,
    /// Versions that are lost after the first connection.
    pub(crate) lost: BTreeMap<u16, EnvironmentError>,
    pub(crate) networks: Networks,
}

#[async_trait]
impl Environment for FakeEnvironment {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn real_subjects(&self) -> &'static [Subject] {
        &[Subject::Postgres]
    }

    fn components(&self) -> Vec<Component> {
        Vec::new()
    }

    fn networks(&self) -> Networks {
        self.networks.clone()
    }

    fn unable(&self, key: ServerKey) -> Option<SkipReason> {
        self.unable.get(&key.version?).cloned()
    }

    async fn server(&self, key: ServerKey) -> Result<Arc<dyn Server>, EnvironmentError> {
        let version = key.version.expect("PostgreSQL");
        match self.broken.get(&version) {
            Some(error) => Err(error.clone()),
            None => Ok(Arc::new(FakeServer::start(self.stubborn.get(&version).cloned(), self.lost.get(&version).cloned()))),
        }
    }

    async fn objection(&self, _: ServerKey, _: &ServerConfig) -> Result<Option<String>, EnvironmentError> {
        Ok(None)
    }

    async fn install(&self, _: &InstallOptions) -> Result<Arc<dyn Installation>, EnvironmentError> {
        Ok(Arc::new(FakeInstallation { server: Arc::new(FakeServer::start(None, None)) }))
    }

    async fn gateway(&self, key: ServerKey) -> Result<Arc<dyn Gateway>, EnvironmentError> {
        Err(EnvironmentError::NoRoute(key))
    }

    async fn close(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A fake server alone. Changes are made at once, but a reload never ends, and a restart is an error.
struct FakeInstallation {
    server: Arc<FakeServer>,
}

#[async_trait]
impl Installation for FakeInstallation {
    fn server(&self, target: Target) -> Option<Arc<dyn Server>> {
        (target == Target::Postgres).then(|| Arc::clone(&self.server) as Arc<dyn Server>)
    }

    fn gateway(&self) -> Option<Arc<dyn Gateway>> {
        None
    }

    fn replication(&self) -> Option<Arc<dyn Replication>> {
        None
    }

    fn mount(&self, _: Target) -> Option<ClientFiles> {
        Some(ClientFiles::default())
    }

    fn certificate_sha256(&self, _: &str) -> Option<String> {
        None
    }

    async fn apply(&self, change: &Change<String>) -> Result<Applied, EnvironmentError> {
        match change {
            Change::Reload(_) => std::future::pending().await,
            Change::Restart(_) => Err(EnvironmentError::NoChange(change.to_string())),
            _ => Ok(Applied::default()),
        }
    }

    async fn close(&self) {}
}

/// No files at all.
pub(crate) struct NoCredentials;

impl CredentialSource for NoCredentials {
    fn client_files(&self, _: Option<&str>, _: Option<&str>) -> Result<ClientFiles, CredentialError> {
        Ok(ClientFiles::default())
    }

    fn certificate_sha256(&self, _: &str) -> Option<String> {
        None
    }

    fn path(&self, reference: &str) -> Result<PathBuf, CredentialError> {
        Err(CredentialError::UnknownReference(reference.to_owned()))
    }

    fn default_host(&self, _: Service) -> String {
        "fake.example.com".to_owned()
    }

    fn application(&self) -> Application {
        Application::default()
    }
}
