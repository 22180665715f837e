//! Sessions that stay open, in every driver, with real servers: they answer, outlive a reload, and tell how they ended.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deployment::Manifests;
use driver::exec::{ExecDriver, Program};
use driver::redis::RedisDriver;
use driver::rustls::{RustlsDriver, RustlsOptions};
use driver::{Driver, HeldSession, Opened, Queried};
use environment::local::{self, LocalOptions};
use environment::{Environment as _, Server};
use environment::{ManifestConfigurator, Servers};
use load::ScenarioSet;
use model::connect::{ClientFiles, ConnectRequest, NAUTOBOT_MOUNT, PostgresRequest, RedisRequest, RedisTls, SslMode};
use model::credential::SecretFile;
use model::driver::Family;
use model::endpoint::{Address, Endpoint};
use model::observation::{ClientOutcome, LogLine, Refused};
use model::refusal::{EndReason, Refusal, Stage};
use model::server::{DeploymentKind, ServerConfig, ServerKey, Service};
use os::poll;
use os::rundir::RunDir;
use os::space::Space;
use os::toolchain::{NAUTOBOT_DRIVERS, POSTGRES_DRIVERS, REDIS_PYTHON_DRIVER, Toolchain};
use pki::{FileUsers, Pki};
use wire::{Relay, RelayOptions};

use crate::support::{PATIENCE, binary, cache, newest_postgres, repository, skipped, toolchain};

/// How long a query may take.
const LIMIT: Duration = Duration::from_secs(20);

/// The documented client, and a server's certificate that it refuses.
const CLIENT: &str = "app";
const OTHER_SERVER: &str = "server-expired";

/// A server with a client's files.
struct Stand {
    server: Arc<dyn Server>,
    environment: Servers,
    pki: Arc<Pki>,
    toolchain: Toolchain,
    // Last: it goes when everything in it is stopped.
    directory: RunDir,
}

impl Stand {
    async fn new(key: ServerKey) -> Self {
        let set = ScenarioSet::load(&[repository().join("scenarios")]).expect("the scenarios");
        let manifests = Arc::new(Manifests::load(&repository().join("kind/deployment")).expect("the manifests"));
        let directory = RunDir::create(&Space::default(), Some(binary())).expect("a directory");
        let pki = Arc::new(Pki::new(manifests, set.credentials, directory.path().join("pki"), FileUsers::of_ourselves()));
        let configurator = Arc::new(ManifestConfigurator::new(Arc::clone(&pki)));
        let toolchain = toolchain();
        let options = LocalOptions::new(toolchain.clone(), directory.path(), cache(), configurator);
        let environment = local::environment(options).expect("randomness");
        let server = environment.server(key).await.expect("it starts");
        Self { server, environment, pki, toolchain, directory }
    }

    /// A way to the server that can be cut, and that tells the addresses which the server sees.
    async fn relay(&self, service: Service) -> Relay {
        let options = RelayOptions {
            dialer: self.server.dialer(),
            upstream: self.server.address(),
            source: None,
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            service,
            faults: Vec::new(),
        };
        Relay::open(options).await.expect("it listens")
    }

    fn files(&self) -> ClientFiles {
        self.files_of(CLIENT)
    }

    fn files_of(&self, identity: &str) -> ClientFiles {
        let identity = self.pki.identity(identity).expect("it can be issued");
        ClientFiles {
            certificate: Some(identity.path(SecretFile::Certificate)),
            key: Some(identity.path(SecretFile::Key)),
            root: Some(self.pki.trust("mtls-ca").expect("it can be issued")),
        }
    }

    /// What this driver is to connect with: mutual TLS.
    fn postgres(&self, driver: &str, at: SocketAddr) -> ConnectRequest {
        let configured = NAUTOBOT_DRIVERS.contains(&driver);
        let host = self.pki.manifests().postgres().expect("the manifests have a Cluster").host;
        ConnectRequest::Postgres(PostgresRequest {
            endpoint: Endpoint { host, address: Address::Tcp(at) },
            sslmode: (!configured).then_some(SslMode::VerifyFull),
            sslnegotiation: None,
            files: self.files(),
            user: CLIENT.to_owned(),
            database: CLIENT.to_owned(),
            password: None,
            min_tls: None,
            max_tls: None,
            alpn: None,
            replication: false,
            env: variables(configured, "NAUTOBOT_DB_SSLMODE", "verify-full"),
        })
    }

    /// The same for Redis.
    fn redis(&self, driver: &str, at: SocketAddr) -> ConnectRequest {
        let configured = NAUTOBOT_DRIVERS.contains(&driver);
        let host = self.pki.manifests().redis_defaults().expect("the manifests have a Redis").host;
        ConnectRequest::Redis(RedisRequest {
            endpoint: Endpoint { host, address: Address::Tcp(at) },
            tls: (!configured).then_some(RedisTls::VerifyFull),
            files: self.files(),
            password: Some(self.server.password()),
            min_tls: None,
            max_tls: None,
            env: variables(configured, "NAUTOBOT_REDIS_SSL", "true"),
        })
    }

    /// A client program of the toolchain, or `None` and a line that says what is missing.
    async fn program(&self, name: &str) -> Option<ExecDriver> {
        let program = match (self.toolchain.libpq(name), self.toolchain.python(name)) {
            (Some(build), _) => Program::libpq(binary(), build, self.directory.path()),
            (None, Some(build)) if NAUTOBOT_DRIVERS.contains(&name) => {
                Program::nautobot(build, None, NAUTOBOT_MOUNT, self.directory.path())
            }
            (None, Some(build)) => Program::python(build, self.directory.path()),
            (None, None) => {
                skipped(&format!(
                    "{name} is not installed: {}",
                    self.toolchain.missing(name).map_or("`make setup` brings it", |missing| missing.cost.as_str())
                ));
                return None;
            }
        };
        Some(ExecDriver::start(program.expect("a home")).await.expect("it starts"))
    }

    /// Waits until the log says of the relay's one connection that it ended, in one of these words, and checks that it says none of
    /// `disorder`.
    async fn assert_closed(&self, relay: &Relay, ended: &[&str], disorder: &[&str], when: &str) {
        let peers = relay.upstreams();
        assert_eq!(peers.len(), 1, "{when}");
        let says = |lines: &[LogLine], texts: &[&str]| lines.iter().any(|line| texts.iter().any(|text| line.contains(text)));
        let lines = self.server.log_lines(&peers, &|lines| says(lines, ended), PATIENCE).await;
        assert!(says(&lines, ended), "{when}: none of {ended:?} in {lines:?}");
        assert!(!says(&lines, disorder), "{when}: {lines:?}");
    }

    async fn close(self) {
        self.environment.close().await;
        self.directory.close();
    }
}

/// The variables of a `nautobot_config.py`, for a client that loads one.
fn variables(configured: bool, name: &str, value: &str) -> BTreeMap<String, String> {
    configured.then(|| (name.to_owned(), value.to_owned())).into_iter().collect()
}

async fn session(driver: &dyn Driver, request: &ConnectRequest) -> Box<dyn HeldSession> {
    let name = &driver.info().name;
    match driver.open(request, LIMIT).await {
        Ok(Opened::Session(observation, session)) => {
            assert!(matches!(&observation.outcome, ClientOutcome::Session(session) if session.tls), "{name}: {observation:?}");
            assert!(observation.phases.connect_ns.is_some(), "{name}: {observation:?}");
            session
        }
        Ok(Opened::Refused(observation)) => panic!("{name}: {observation:?}"),
        Err(error) => panic!("{name}: {error}"),
    }
}

async fn answered(session: &mut dyn HeldSession, when: &str) {
    assert_eq!(session.query(LIMIT).await.expect("the client works"), Queried::Answered, "{when}");
}

/// Queries until the session is over; a second query must say the same.
async fn ended(session: &mut dyn HeldSession, when: &str) -> Refused {
    let ended = session.query(LIMIT).await.expect("the client works");
    let Queried::Ended(refused) = &ended else { panic!("{when}: it goes on") };
    assert_eq!(refused.stage, Some(Stage::Query), "{when}: {refused:?}");
    assert_eq!(session.query(LIMIT).await.expect("the client works"), ended, "{when}");
    refused.clone()
}

/// Cuts the way to the server, and queries until the session is over: the relay's sockets are closed a moment later.
async fn cut_off(relay: Relay, session: &mut dyn HeldSession, when: &str) -> Refused {
    drop(relay);
    let begun = Instant::now();
    while session.query(LIMIT).await.expect("the client works") == Queried::Answered {
        assert!(begun.elapsed() < PATIENCE, "{when}: it goes on");
    }
    ended(session, when).await
}

/// Another connection of the application's user, over the unix socket: it may look at the held one and end it.
struct Beside(tokio_postgres::Client);

impl Beside {
    async fn of(server: &dyn Server) -> Self {
        let Ok(Some(Address::Unix { directory, port })) = server.unix_socket() else { panic!("it has a unix socket") };
        let mut config = tokio_postgres::Config::new();
        config.host_path(directory).port(port).user(CLIENT).dbname(CLIENT);
        let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a session");
        tokio::spawn(connection);
        Self(client)
    }

    /// The process behind the application's only session; one that was closed before may still be on its way out.
    async fn backend(&self) -> i32 {
        // Another state would be a transaction that the client holds open between two queries.
        let sql = "SELECT pid FROM pg_stat_activity WHERE usename = $1 AND backend_type = 'client backend' AND state = 'idle' \
                   AND pid <> pg_backend_pid()";
        let one = || async {
            let rows = self.0.query(sql, &[&CLIENT]).await.expect("rows");
            if let [row] = &rows[..] { Ok(row.get(0)) } else { Err(format!("{} idle sessions", rows.len())) }
        };
        poll::until("the one session", PATIENCE, Duration::from_millis(5), one).await.expect("one session")
    }

    /// Ends that session, and waits until it is gone.
    async fn terminate(&self) {
        let pid = self.backend().await;
        let done = self.0.query_one("SELECT pg_terminate_backend($1, 20000)", &[&pid]).await.expect("a row");
        assert!(done.get::<_, bool>(0), "it ended");
    }

    /// Kills that session's process, and waits until the server has started over, which also ends this connection.
    async fn kill(self, server: &dyn Server) {
        let pid = self.backend().await;
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it is there");
        let mark = server.log_mark();
        while self.0.simple_query("SELECT 1").await.is_ok() {}
        let ready = |lines: &[LogLine]| lines.iter().any(|line| line.contains("ready to accept connections"));
        assert!(ready(&server.says_since(mark, &ready, PATIENCE).await), "it starts over");
    }
}

/// Everything that a held session of PostgreSQL goes through. `reason` is what this client says of a session that was terminated.
async fn goes_through_everything(stand: &Stand, driver: &dyn Driver, reason: Refusal) {
    let name = driver.info().name.clone();
    let server = &*stand.server;
    let rules = Some(vec!["local all all trust".to_owned(), "hostssl all all all cert".to_owned()]);
    // Otherwise a session that just goes away leaves no trace but its disconnection.
    let settings = [("log_min_messages".to_owned(), "debug1".to_owned())];
    let config = ServerConfig { pg_hba: rules, settings: settings.into(), ..ServerConfig::default() };
    server.apply(&config).await.expect("it reloads");
    let beside = Beside::of(server).await;

    let mut held = session(driver, &stand.postgres(&name, server.address())).await;
    beside.backend().await;
    for _ in 0..5 {
        answered(&mut *held, &name).await;
    }
    // SIGHUP, with another certificate: whoever connects now sees it.
    server.apply(&ServerConfig { certificate: Some(OTHER_SERVER.to_owned()), ..config.clone() }).await.expect("it reloads");
    let observation = driver.connect(&stand.postgres(&name, server.address()), LIMIT).await.expect("the client works");
    assert!(
        matches!(&observation.outcome, ClientOutcome::Refused(refused) if matches!(refused.refusal, Refusal::Verify(_))),
        "{name}: {observation:?}"
    );
    answered(&mut *held, &format!("{name}, after the reload")).await;
    server.apply(&config).await.expect("it reloads");
    beside.terminate().await;
    let refused = ended(&mut *held, &format!("{name}, terminated")).await;
    assert_eq!(refused.refusal, reason, "{name}: {refused:?}");
    drop(held);

    // Closed in order, and dropped: no `unexpected EOF on client connection` (debug1), no error of the socket.
    let disorder = ["unexpected EOF", "could not receive data", "reset by peer"];
    for dropped in [false, true] {
        let relay = stand.relay(Service::Postgres).await;
        let mut held = session(driver, &stand.postgres(&name, relay.address())).await;
        answered(&mut *held, &name).await;
        if dropped {
            drop(held);
        } else {
            held.close().await;
        }
        stand.assert_closed(&relay, &["disconnection: session time"], &disorder, &format!("{name}, dropped: {dropped}")).await;
    }

    // A killed backend, and a way that is cut: not a word.
    let mut held = session(driver, &stand.postgres(&name, server.address())).await;
    beside.kill(server).await;
    let refused = ended(&mut *held, &format!("{name}, its backend killed")).await;
    assert_eq!(refused.refusal, Refusal::Closed(Stage::Query), "{name}: {refused:?}");
    let relay = stand.relay(Service::Postgres).await;
    let mut held = session(driver, &stand.postgres(&name, relay.address())).await;
    answered(&mut *held, &name).await;
    let refused = cut_off(relay, &mut *held, &format!("{name}, cut off")).await;
    assert_eq!(refused.refusal, Refusal::Closed(Stage::Query), "{name}: {refused:?}");
    driver.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_postgresql_driver_keeps_a_session_over_a_reload_and_tells_how_it_ended() {
    let Some(build) = newest_postgres() else { return };
    let key = ServerKey { service: Service::Postgres, version: Some(build.major), deployment: DeploymentKind::Documented };
    let stand = Stand::new(key).await;
    let administrator = Refusal::Ended(EndReason::AdminShutdown);
    goes_through_everything(&stand, &RustlsDriver::new(RustlsOptions::default()), administrator).await;
    for name in POSTGRES_DRIVERS.into_iter().chain(["nautobot-django"]) {
        let Some(driver) = stand.program(name).await else { continue };
        // psycopg2, Django's too, shows the last of libpq's results only, which is that the connection is closed: the server's words are lost.
        let reason = if driver.info().version.contains("psycopg2") { Refusal::Closed(Stage::Query) } else { administrator };
        goes_through_everything(&stand, &driver, reason).await;
    }
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_streaming_replication_is_held_too() {
    let Some(build) = newest_postgres() else { return };
    let key = ServerKey { service: Service::Postgres, version: Some(build.major), deployment: DeploymentKind::Documented };
    let stand = Stand::new(key).await;
    let rules = Some(vec!["hostssl replication all all cert".to_owned(), "local all all trust".to_owned()]);
    stand.server.apply(&ServerConfig { pg_hba: rules, ..ServerConfig::default() }).await.expect("it reloads");
    let Some(build) = stand.toolchain.libpq.first() else {
        return skipped("no libpq is installed: `make setup` brings it");
    };
    let driver = stand.program(&build.driver).await.expect("it is there");
    let mut request = stand.postgres(&build.driver, stand.server.address());
    if let ConnectRequest::Postgres(request) = &mut request {
        request.replication = true;
        request.user = "streaming_replica".to_owned();
        request.files = stand.files_of("streaming-replica");
    }
    let mut held = session(&driver, &request).await;
    answered(&mut *held, "a WAL sender takes IDENTIFY_SYSTEM").await;
    answered(&mut *held, "and once more").await;
    held.close().await;
    driver.close().await;
    stand.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_redis_driver_keeps_a_session_and_tells_how_it_ended() {
    let Some(redis) = toolchain().redis else {
        return skipped("no Redis is installed: `apt install redis-server`");
    };
    let cli = redis.path.with_file_name("redis-cli");
    if !cli.is_file() {
        return skipped("there is no redis-cli beside redis-server");
    }
    let stand = Stand::new(ServerKey { service: Service::Redis, version: None, deployment: DeploymentKind::Documented }).await;
    let mut drivers: Vec<Box<dyn Driver>> = vec![Box::new(RedisDriver::new())];
    for name in [REDIS_PYTHON_DRIVER, "nautobot-redis", "nautobot-kombu"] {
        if let Some(driver) = stand.program(name).await {
            drivers.push(Box::new(driver));
        }
    }
    for driver in drivers {
        let name = driver.info().name.clone();
        // The first is what Redis 7.0 says of every end of TLS, with OpenSSL's error if there was one.
        let ends = ["Reading from client", "Client closed connection"];
        // Python's sockets are closed without a close_notify, which OpenSSL calls unexpected.
        let disorder: &[&str] =
            if driver.info().family == Family::RedisPy { &["reset by peer"] } else { &["unexpected eof", "reset by peer"] };
        for dropped in [false, true] {
            let relay = stand.relay(Service::Redis).await;
            let mut held = session(&*driver, &stand.redis(&name, relay.address())).await;
            for _ in 0..5 {
                answered(&mut *held, &name).await;
            }
            if dropped {
                drop(held);
            } else {
                held.close().await;
            }
            stand.assert_closed(&relay, &ends, disorder, &format!("{name}, dropped: {dropped}")).await;
        }
        let mut held = session(&*driver, &stand.redis(&name, stand.server.address())).await;
        let files = stand.files();
        let (port, path) =
            (stand.server.address().port().to_string(), |path: &Option<_>| -> std::path::PathBuf { path.clone().expect("a file") });
        let killed = Command::new(&cli)
            .args(["-p", &port, "--tls", "--insecure", "--cert"])
            .arg(path(&files.certificate))
            .arg("--key")
            .arg(path(&files.key))
            .arg("--cacert")
            .arg(path(&files.root))
            .args(["CLIENT", "KILL", "TYPE", "normal"])
            .env("REDISCLI_AUTH", stand.server.password().reveal())
            .output()
            .expect("it runs");
        assert_eq!(String::from_utf8_lossy(&killed.stdout).trim(), "1", "{killed:?}");
        let refused = ended(&mut *held, &format!("{name}, killed")).await;
        assert_eq!(refused.refusal, Refusal::Closed(Stage::Query), "{name}: {refused:?}");
        let relay = stand.relay(Service::Redis).await;
        let mut held = session(&*driver, &stand.redis(&name, relay.address())).await;
        let refused = cut_off(relay, &mut *held, &format!("{name}, cut off")).await;
        assert_eq!(refused.refusal, Refusal::Closed(Stage::Query), "{name}: {refused:?}");
        driver.close().await;
    }
    stand.close().await;
}
