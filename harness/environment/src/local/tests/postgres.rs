//! Real PostgreSQL servers.

use std::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_secs(10);

fn contains(text: &str) -> impl Fn(&[model::observation::LogLine]) -> bool + Send + Sync + '_ {
    move |lines| lines.iter().any(|line| line.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_starts_serves_reloads_and_stops() {
    let fixture = Fixture::new();
    let environment = &fixture.environment;
    for build in toolchain().postgres {
        let server = environment.server(postgres_key(build.major)).await.expect("it starts");
        let app = &fixture.configurator.app;
        // A client certificate gets in, and the log's lines are tied to the client's port.
        let (local, outcome) = connect_postgres(server.address(), Some(app)).await;
        assert_eq!(outcome.expect("a session"), "/CN=app");
        let lines = server.log_lines(&[local], &contains("disconnection:"), LIMIT).await;
        let texts: Vec<&str> = lines.iter().map(|line| line.message.split(':').next().unwrap_or_default()).collect();
        let expected: &[&str] = if build.major >= 17 {
            &["connection received", "SSLRequest accepted", "connection authenticated", "connection authorized", "disconnection"]
        } else {
            &["connection received", "connection authenticated", "connection authorized", "disconnection"]
        };
        assert_eq!(texts, expected, "PostgreSQL {}", build.major);
        // Another CA, by reload.
        server.apply(&ServerConfig { client_ca: Some("other".to_owned()), ..ServerConfig::default() }).await.expect("it reloads");
        let (local, outcome) = connect_postgres(server.address(), Some(app)).await;
        assert!(outcome.expect_err("refused").contains("UnknownCA"));
        let lines = server.log_lines(&[local], &contains("could not accept SSL connection"), LIMIT).await;
        assert!(lines.iter().all(|line| line.peer == Some(local)), "{lines:?}");
        // And back, with no certificate.
        server.apply(&ServerConfig::default()).await.expect("it reloads");
        let (local, outcome) = connect_postgres(server.address(), None).await;
        assert!(outcome.expect_err("refused").contains("connection requires a valid client certificate"));
        let lines = server.log_lines(&[local], &contains("valid client certificate"), LIMIT).await;
        assert_eq!(lines.last().map(|line| line.severity.as_str()), Some("FATAL"));
    }
    environment.close().await;
    assert_nothing_left(fixture.run.path()).await;
}

/// Waits for the logging collector too, which ends a moment after its server.
pub(super) async fn assert_nothing_left(run: &Path) {
    os::poll::until("the servers' end", LIMIT, Duration::from_millis(1), || async {
        let left = os::tree::processes_in(run);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await
    .expect("nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn ipv6_clients_are_found_in_the_log() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    let Some(address) = server.address_v6() else {
        assert!(std::net::TcpListener::bind("[::1]:0").is_err(), "there is an IPv6 loopback, so the server listens on it");
        return;
    };
    let (local, outcome) = connect_postgres(address, Some(&fixture.configurator.app)).await;
    outcome.expect("a session");
    let lines = server.log_lines(&[local], &contains("connection authorized"), LIMIT).await;
    assert!(lines.iter().all(|line| line.peer == Some(local)) && lines.len() >= 3, "{lines:?}");
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_run_is_the_applications_and_is_in_no_log() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    let rules = vec!["hostssl all all all scram-sha-256".to_owned()];
    server.apply(&ServerConfig { pg_hba: Some(rules), ..ServerConfig::default() }).await.expect("it reloads");
    let mut config = tokio_postgres::Config::new();
    config.user("app").dbname("app").password(server.password().reveal()).host("127.0.0.1").port(server.address().port());
    let connector = tokio_postgres_rustls::MakeRustlsConnect::new(client_config(None));
    let (client, connection) = config.connect(connector.clone()).await.expect("the password is right");
    tokio::spawn(connection);
    let owner: String =
        client.query_one("SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = 'app'", &[]).await.expect("a row").get(0);
    assert_eq!(owner, "app");
    config.password("wrong");
    assert!(config.connect(connector).await.is_err(), "another password is refused");
    fixture.environment.close().await;
    for log in [
        server.log_path(),
        server.log_path().with_file_name("server.log"),
        fixture.run.path().join(postgres_key(any_major()).to_string()).join("output.log"),
    ] {
        let text = std::fs::read_to_string(&log).expect("a log");
        assert!(!text.contains(server.password().reveal()) && !text.contains("ALTER ROLE"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_not_taken_is_an_error_in_the_servers_words() {
    let fixture = Fixture::new();
    for build in toolchain().postgres {
        let server = fixture.environment.server(postgres_key(build.major)).await.expect("it starts");
        let apply = async |config: ServerConfig| {
            let error = server.apply(&config).await.expect_err("it can't be taken");
            assert!(matches!(error, EnvironmentError::Configure { .. }), "{error}");
            error.to_string()
        };
        let bad_rule = apply(ServerConfig { pg_hba: Some(vec!["nonsense".to_owned()]), ..ServerConfig::default() }).await;
        assert!(bad_rule.contains("pg_hba.conf was not reloaded") && bad_rule.contains("line 1"), "{bad_rule}");
        assert!(bad_rule.contains("server.json"), "{bad_rule}");
        let bad_ca = apply(ServerConfig { client_ca: Some("garbage".to_owned()), ..ServerConfig::default() }).await;
        assert!(bad_ca.contains("SSL configuration was not reloaded") && bad_ca.contains("client-ca.crt"), "{bad_ca}");
        let setting =
            |name: &str, value: &str| ServerConfig { settings: [(name.to_owned(), value.to_owned())].into(), ..ServerConfig::default() };
        let bad_value = apply(setting("ssl_min_protocol_version", "SSLv1")).await;
        assert!(bad_value.contains("ssl_min_protocol_version") && bad_value.contains("contains errors"), "{bad_value}");
        let syntax = apply(setting("a b", "c")).await;
        assert!(syntax.contains("syntax error"), "{syntax}");
        let needs_restart = apply(setting("max_wal_senders", "3")).await;
        assert!(needs_restart.contains("cannot be changed without restarting"), "{needs_restart}");
        let unknown = apply(ServerConfig { client_ca: Some("who".to_owned()), ..ServerConfig::default() }).await;
        assert!(unknown.contains("there is no trust `who`"), "{unknown}");
        // It takes a good one after all that.
        server.apply(&ServerConfig::default()).await.expect("it reloads");
        connect_postgres(server.address(), Some(&fixture.configurator.app)).await.1.expect("a session");
    }
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_equal_configuration_costs_nothing() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    let log = || std::fs::read_to_string(server.log_path()).expect("a log");
    let reloads = || log().matches("received SIGHUP").count();
    let before = reloads();
    server.apply(&ServerConfig::default()).await.expect("it has it");
    assert_eq!(reloads(), before);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_share_one_start() {
    let fixture = Arc::new(Fixture::new());
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let fixture = Arc::clone(&fixture);
        callers.spawn(async move { fixture.environment.server(postgres_key(any_major())).await.expect("it starts").address() });
    }
    let addresses: std::collections::BTreeSet<SocketAddr> = callers.join_all().await.into_iter().collect();
    assert_eq!(addresses.len(), 1);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ended_by_itself_is_lost() {
    let fixture = Fixture::new();
    let key = postgres_key(any_major());
    let server = fixture.environment.server(key).await.expect("it starts");
    let pid = std::fs::read_to_string(fixture.run.path().join(key.to_string()).join("data/postmaster.pid")).expect("a pid file");
    let pid: i32 = pid.lines().next().expect("a line").parse().expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGQUIT).expect("it is there");
    let error = os::poll::until("the loss", LIMIT, Duration::from_millis(1), || async {
        match fixture.environment.server(key).await {
            Ok(_) => Err("alive".to_owned()),
            Err(error) => Ok(error),
        }
    })
    .await
    .expect("it is noticed");
    assert!(matches!(error, EnvironmentError::Lost { .. }) && error.to_string().contains("immediate shutdown"), "{error}");
    let error =
        server.apply(&ServerConfig { client_ca: Some("other".to_owned()), ..ServerConfig::default() }).await.expect_err("it is gone");
    assert!(matches!(error, EnvironmentError::Lost { .. }), "{error}");
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_given_by_their_names_only() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    assert!(server.file("server.crt").is_some_and(|path| path.is_file()));
    assert_eq!(server.file("missing.crt"), None);
    assert_eq!(server.file("../data/pg_hba.conf"), None);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_environment_stops_its_servers() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    assert!(!os::tree::processes_in(fixture.run.path()).is_empty());
    drop(server);
    let Fixture { environment, run, .. } = fixture;
    drop(environment);
    assert_nothing_left(run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_every_connection_finds_its_own_lines() {
    let fixture = Arc::new(Fixture::new());
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    let mut clients = JoinSet::new();
    for client in 0..16 {
        let (server, fixture) = (Arc::clone(&server), Arc::clone(&fixture));
        clients.spawn(async move {
            for round in 0..10 {
                let with_certificate = (client + round) % 2 == 0;
                let pair = with_certificate.then_some(&fixture.configurator.app);
                let (local, outcome) = connect_postgres(server.address(), pair).await;
                assert_eq!(outcome.is_ok(), with_certificate, "{outcome:?}");
                let last = if with_certificate { "disconnection" } else { "requires a valid client certificate" };
                let lines = server.log_lines(&[local], &contains(last), LIMIT).await;
                assert!(lines.iter().any(|line| line.contains(last)), "{lines:?}");
                assert!(lines.iter().all(|line| line.peer == Some(local)), "{lines:?}");
                assert_eq!(lines.iter().any(|line| line.severity == "FATAL"), !with_certificate, "{lines:?}");
                assert_eq!(lines.iter().filter(|line| line.contains("connection received")).count(), 1, "{lines:?}");
            }
        });
    }
    clients.join_all().await;
    fixture.environment.close().await;
}

/// Prints what things cost; run by hand: `cargo test --lib figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, asserts nothing"]
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
async fn figures() {
    let fixture = Fixture::new();
    for round in 0..2 {
        for build in toolchain().postgres {
            let deployment = if round == 0 { DeploymentKind::Documented } else { DeploymentKind::Cnpg };
            let key = ServerKey { deployment, ..postgres_key(build.major) };
            let start = Instant::now();
            let server = fixture.environment.server(key).await.expect("it starts");
            eprintln!("{key}: start {:?}", start.elapsed());
            let other = ServerConfig { client_ca: Some("other".to_owned()), ..ServerConfig::default() };
            let mut times: Vec<Duration> = Vec::new();
            for _ in 0..25 {
                for config in [&other, &ServerConfig::default()] {
                    let start = Instant::now();
                    server.apply(config).await.expect("it reloads");
                    times.push(start.elapsed());
                }
            }
            times.sort();
            eprintln!("{key}: apply p50 {:?} max {:?}", times[times.len() / 2], times[times.len() - 1]);
            let mut times: Vec<Duration> = Vec::new();
            for _ in 0..50 {
                let (local, outcome) = connect_postgres(server.address(), None).await;
                assert!(outcome.is_err());
                let start = Instant::now();
                server.log_lines(&[local], &contains("valid client certificate"), LIMIT).await;
                times.push(start.elapsed());
            }
            times.sort();
            eprintln!("{key}: last log line after the client's end p50 {:?} max {:?}", times[times.len() / 2], times[times.len() - 1]);
        }
    }
    load(&fixture).await;
    let start = Instant::now();
    fixture.environment.close().await;
    eprintln!("close: {:?}", start.elapsed());
}

/// Sixteen clients at once over all servers: connections a second, log lines included, and this process's own processor time for each.
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
async fn load(fixture: &Fixture) {
    let mut servers = Vec::new();
    for build in toolchain().postgres {
        servers.push(fixture.environment.server(postgres_key(build.major)).await.expect("it starts"));
    }
    let (start, used) = (Instant::now(), processor_time());
    let mut clients = JoinSet::new();
    for client in 0..16 {
        let server = Arc::clone(&servers[client % servers.len()]);
        clients.spawn(async move {
            let mut count = 0_u32;
            while start.elapsed() < Duration::from_secs(4) {
                let (local, _) = connect_postgres(server.address(), None).await;
                let lines = server.log_lines(&[local], &contains("valid client certificate"), LIMIT).await;
                assert!(lines.iter().any(|line| line.contains("valid client certificate")), "{lines:?}");
                count += 1;
            }
            count
        });
    }
    let count: u32 = clients.join_all().await.into_iter().sum();
    let (wall, used) = (start.elapsed(), processor_time() - used);
    eprintln!("load: {:.0} connections a second, {:?} of our processor time each", f64::from(count) / wall.as_secs_f64(), used / count);
}

fn processor_time() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).expect("usage");
    let time = usage.user_time() + usage.system_time();
    Duration::new(time.tv_sec().unsigned_abs(), 0) + Duration::from_micros(time.tv_usec().unsigned_abs())
}

#[tokio::test(flavor = "multi_thread")]
async fn user_and_database_have_the_deployments_names() {
    struct CustomNames(TestConfigurator);
    impl Configurator for CustomNames {
        fn files(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError> {
            self.0.files(key, config, paths)
        }

        fn application(&self) -> model::server::Application {
            model::server::Application { user: "the shop".to_owned(), database: "or\"ders".to_owned() }
        }
    }
    let fixture = Fixture::with(|options, _| options.configurator = Arc::new(CustomNames(TestConfigurator::new())));
    let server = fixture.environment.server(postgres_key(any_major())).await.expect("it starts");
    let rules = ["local all all scram-sha-256".to_owned()];
    server.apply(&ServerConfig { pg_hba: Some(rules.to_vec()), ..ServerConfig::default() }).await.expect("it reloads");
    let Ok(Some(model::endpoint::Address::Unix { directory, port })) = server.unix_socket() else { panic!("no unix socket") };
    let mut config = tokio_postgres::Config::new();
    config.host_path(&directory).port(port).user("the shop").dbname("or\"ders").password(server.password().reveal());
    let (client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a session");
    let connection = tokio::spawn(connection);
    let row = client.query_one("SELECT rolname::text FROM pg_roles WHERE rolname IN ('app', 'the shop')", &[]).await.expect("one role");
    assert_eq!(row.get::<_, String>(0), "the shop");
    drop(client);
    connection.await.expect("no panic").expect("a clean end");
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_released_goes_with_its_files_and_the_next_one_is_another() {
    let fixture = Fixture::new();
    let key = postgres_key(any_major());
    let first = fixture.environment.server(key).await.expect("it starts");
    let directory = fixture.run.path().join(key.to_string());
    assert!(directory.join("data").is_dir());
    fixture.environment.release(redis_key()).await;
    fixture.environment.release(key).await;
    assert!(!directory.exists(), "its files are gone");
    assert_nothing_left(fixture.run.path()).await;
    let (_, outcome) = match TcpStream::connect(first.address()).await {
        Ok(_) => panic!("nobody listens there any more"),
        Err(_) => {
            connect_postgres(fixture.environment.server(key).await.expect("another starts").address(), Some(&fixture.configurator.app))
                .await
        }
    };
    outcome.expect("a session");
    fixture.environment.close().await;
}
