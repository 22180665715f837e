//! Real Redis servers.

use super::postgres::assert_nothing_left;
use super::*;
use model::observation::LogLine;

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn it_wants_certificate_and_password_and_its_log_tells_of_refusals() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    let app = &fixture.configurator.app;
    let mut addresses = vec![server.address()];
    addresses.extend(server.address_v6());
    for address in addresses {
        let (local, answer) = ping_redis(address, Some(app), &server.password()).await;
        assert_eq!(answer.expect("a session"), "+OK\r\n+PONG\r\n");
        // Redis names no client when one goes without a close_notify: were the next connection there already, the line would be taken for
        // one of that.
        let over = |lines: &[LogLine]| lines.iter().any(|line| line.contains("Reading from client") || line.contains("Client closed"));
        let lines = server.log_lines(&[local], &over, LIMIT).await;
        assert!(over(&lines) && lines[0].contains("Accepted"), "{lines:?}");
        assert!(lines.iter().all(|line| line.peer == Some(local)), "{lines:?}");
        let (local, answer) = ping_redis(address, None, &server.password()).await;
        assert!(answer.expect_err("refused").contains("CertificateRequired"));
        let lines =
            server.log_lines(&[local], &|lines| lines.iter().any(|line| line.contains("did not return a certificate")), LIMIT).await;
        assert_eq!(lines.len(), 2, "{lines:?}");
    }
    fixture.environment.close().await;
    assert_nothing_left(fixture.run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_applied_on_the_same_port() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    let (address, app) = (server.address(), &fixture.configurator.app);
    server.apply(&ServerConfig { client_ca: Some("other".to_owned()), ..ServerConfig::default() }).await.expect("it takes it");
    assert_eq!(server.address(), address);
    let (_, answer) = ping_redis(address, Some(app), &server.password()).await;
    assert!(answer.expect_err("refused").contains("UnknownCA"));
    let optional = ServerConfig { settings: [("tls-auth-clients".to_owned(), "optional".to_owned())].into(), ..ServerConfig::default() };
    server.apply(&optional).await.expect("it takes it");
    ping_redis(address, None, &server.password()).await.1.expect("a session without a certificate");
    server.apply(&ServerConfig::default()).await.expect("it takes it");
    ping_redis(address, Some(app), &server.password()).await.1.expect("a session");
    ping_redis(address, None, &server.password()).await.1.expect_err("refused");
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_tls_is_opened_by_the_configuration_and_closed_by_the_next() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    assert_eq!(server.plaintext_port(), None);
    let open = ServerConfig { settings: [("port".to_owned(), "6379".to_owned())].into(), ..ServerConfig::default() };
    server.apply(&open).await.expect("it takes it");
    let port = server.plaintext_port().expect("it opens one");
    let address = SocketAddr::new(server.address().ip(), port);
    assert_ne!(address, server.address());
    assert_eq!(ping_redis_in_plaintext(address, &server.password()).await.as_deref(), Some("+OK\r\n+PONG\r\n+OK\r\n"));
    ping_redis(server.address(), Some(&fixture.configurator.app), &server.password()).await.1.expect("a session over TLS");
    server.apply(&ServerConfig::default()).await.expect("it takes it");
    assert_eq!(server.plaintext_port(), None);
    assert_eq!(ping_redis_in_plaintext(address, &server.password()).await, None);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_not_taken_is_an_error_and_the_next_one_works() {
    let fixture = Fixture::new();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    let bad = ServerConfig { settings: [("no-such-setting".to_owned(), "1".to_owned())].into(), ..ServerConfig::default() };
    let error = server.apply(&bad).await.expect_err("it can't be taken");
    assert!(matches!(error, EnvironmentError::Configure { .. }) && error.to_string().contains("no-such-setting"), "{error}");
    let garbage = ServerConfig { client_ca: Some("garbage".to_owned()), ..ServerConfig::default() };
    let error = server.apply(&garbage).await.expect_err("it can't be taken");
    let error = error.to_string();
    assert!(error.contains("Failed to configure CA certificate(s)") && !error.contains("no-such-setting"), "{error}");
    server.apply(&ServerConfig::default()).await.expect("it takes it");
    ping_redis(server.address(), Some(&fixture.configurator.app), &server.password()).await.1.expect("a session");
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ended_by_itself_is_lost() {
    let fixture = Fixture::new();
    fixture.environment.server(redis_key()).await.expect("it starts");
    for pid in os::tree::processes_in(fixture.run.path()) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).expect("it is there");
    }
    let error = os::poll::until("the loss", LIMIT, Duration::from_millis(1), || async {
        match fixture.environment.server(redis_key()).await {
            Ok(_) => Err("alive".to_owned()),
            Err(error) => Ok(error),
        }
    })
    .await
    .expect("it is noticed");
    assert!(matches!(error, EnvironmentError::Lost { .. }) && error.to_string().contains("bye bye"), "{error}");
    fixture.environment.close().await;
}

/// Prints what things cost; run by hand: `cargo test --lib figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, asserts nothing"]
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
async fn figures_of_redis() {
    let fixture = Fixture::new();
    let start = std::time::Instant::now();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    eprintln!("redis: start {:?}", start.elapsed());
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..10 {
        for config in [ServerConfig { client_ca: Some("other".to_owned()), ..ServerConfig::default() }, ServerConfig::default()] {
            let start = std::time::Instant::now();
            server.apply(&config).await.expect("it takes it");
            times.push(start.elapsed());
        }
    }
    times.sort();
    eprintln!("redis: apply p50 {:?} max {:?}", times[times.len() / 2], times[times.len() - 1]);
    fixture.environment.close().await;
}
