//! A real HAProxy in front of a real Redis.

use std::io::Write as _;

use super::postgres::assert_nothing_left;
use super::*;
use crate::servers::{Backend, HaproxyGateway};
use model::network::NetworkName;

const LIMIT: Duration = Duration::from_secs(10);

/// Where HAProxy is missing, these tests show nothing.
pub(super) fn has_haproxy() -> bool {
    let found = toolchain().haproxy.is_some();
    if !found {
        // Past libtest's capture, which only shows what failing tests print.
        writeln!(io::stderr(), "skipped: HAProxy is not installed; `make setup` brings it").expect("writes");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_host_name_leads_to_the_server_and_the_log_ties_the_client_to_what_the_server_saw() {
    if !has_haproxy() {
        return;
    }
    let fixture = Fixture::new();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    assert_eq!(fixture.environment.unable_gateway(redis_key()), None);
    let gateway = fixture.environment.gateway(redis_key()).await.expect("it starts");
    let route = gateway.route(Service::Redis).expect("a route");
    assert_eq!(gateway.route(Service::Postgres), None);
    let app = &fixture.configurator.app;
    let mut addresses = vec![route.address];
    addresses.extend(route.address_v6);
    for address in addresses {
        let (client, answer) = ping_redis_as(&route.host, address, Some(app), &server.password()).await;
        assert_eq!(answer.expect("a session"), "+OK\r\n+PONG\r\n");
        let seen = gateway.upstreams(&[client], LIMIT).await;
        let [Some(seen)] = seen[..] else { panic!("{seen:?}") };
        assert_eq!(Ok(seen.ip()), fixture.environment.networks().network(NetworkName::Gateway).map(|network| network.client));
        let lines = server.log_lines(&[seen], &|lines| lines.iter().any(|line| line.contains("Accepted")), LIMIT).await;
        assert!(lines.iter().any(|line| line.peer == Some(seen)), "{lines:?}");
    }
    let (stranger, answer) = ping_redis_as("localhost", route.address, Some(app), &server.password()).await;
    answer.expect_err("no route has that name");
    // The one that was refused by the server was passed on all the same.
    let (nobody, answer) = ping_redis_as(&route.host, route.address, None, &server.password()).await;
    assert!(answer.expect_err("refused").contains("CertificateRequired"));
    let seen = gateway.upstreams(&[stranger, nobody], LIMIT).await;
    assert!(matches!(seen[..], [None, Some(_)]), "{seen:?}");
    fixture.environment.close().await;
    assert_nothing_left(fixture.run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_says_nothing_of_tls_is_closed_and_the_server_hears_nothing_of_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    if !has_haproxy() {
        return;
    }
    let fixture = Fixture::new();
    let gateway = fixture.environment.gateway(redis_key()).await.expect("it starts");
    let route = gateway.route(Service::Redis).expect("a route");
    let mut stream = TcpStream::connect(route.address).await.expect("it listens");
    let client = stream.local_addr().expect("an address");
    // PostgreSQL's SSLRequest.
    stream.write_all(&[0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f]).await.expect("it reads");
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("it closes").expect("in order");
    assert_eq!(answer, b"");
    assert_eq!(gateway.upstreams(&[client], LIMIT).await, [None]);
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_again_on_its_ports_and_tells_of_a_server_that_is_away() {
    if !has_haproxy() {
        return;
    }
    let fixture = Fixture::new();
    let server = fixture.environment.server(redis_key()).await.expect("it starts");
    let shared = fixture.environment.shared();
    let backend = Backend::new(fixture.configurator.route(Service::Redis).as_ref(), redis_key(), server.address()).expect("a route");
    let gateway = HaproxyGateway::start(Arc::clone(shared), "gateway-of-a-test", vec![backend]).await.expect("it starts");
    let route = gateway.route(Service::Redis).expect("a route");
    gateway.stop().await;
    TcpStream::connect(route.address).await.expect_err("it is stopped");
    gateway.start_again().await.expect("it starts");
    assert_eq!(gateway.route(Service::Redis).as_ref(), Some(&route));
    let app = &fixture.configurator.app;
    ping_redis_as(&route.host, route.address, Some(app), &server.password()).await.1.expect("a session");
    fixture.environment.close().await;
    let (client, answer) = ping_redis_as(&route.host, route.address, Some(app), &server.password()).await;
    answer.expect_err("the server is away");
    assert_eq!(gateway.upstreams(&[client], LIMIT).await, [None]);
    drop(gateway);
    assert_nothing_left(fixture.run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_ends_by_itself_and_one_that_never_starts_are_errors_with_their_last_words() {
    if !has_haproxy() {
        return;
    }
    let fixture = Fixture::new();
    fixture.environment.gateway(redis_key()).await.expect("it starts");
    let pids = os::tree::processes_in(&fixture.run.path().join("gateway-redis-documented"));
    let [pid] = pids[..] else { panic!("one process: {pids:?}") };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).expect("it is there");
    let error = os::poll::until("the gateway's end", LIMIT, Duration::from_millis(1), || async {
        match fixture.environment.gateway(redis_key()).await {
            Err(error) => Ok(error),
            Ok(_) => Err("it is there".to_owned()),
        }
    });
    let error = error.await.expect("it is told");
    assert!(matches!(error, EnvironmentError::Lost { .. }) && error.to_string().contains("signal: 9"), "{error}");
    let shared = fixture.environment.shared();
    let backend = |hosts: &str| {
        let mut route = fixture.configurator.route(Service::Redis).expect("a route");
        route.hosts = vec![hosts.to_owned()];
        Backend { route, address: SocketAddr::from(([127, 0, 0, 1], 1)) }
    };
    // A name that HAProxy takes for an option that there is not.
    let start = HaproxyGateway::start(Arc::clone(shared), "broken", vec![backend("-f /nonexistent")]).await;
    let error = start.map(|_| ()).expect_err("it can't start").to_string();
    assert!(error.contains("broken did not start") && error.contains("/nonexistent"), "{error}");
    fixture.environment.close().await;
}

#[tokio::test]
async fn without_haproxy_and_without_a_route_there_is_no_gateway_and_it_is_said_what_brings_it() {
    let fixture = Fixture::with(|options, _| {
        options.toolchain.haproxy = None;
        options.toolchain.missing.clear();
    });
    let unable = fixture.environment.unable_gateway(redis_key()).expect("it is missing");
    assert_eq!(unable, SkipReason::ServerMissing("HAProxy is not installed: `make setup` brings it".to_owned()));
    assert!(!fixture.environment.real_subjects().contains(&Subject::Gateway));
    if has_haproxy() {
        let fixture = Fixture::new();
        assert!(fixture.environment.real_subjects().contains(&Subject::Gateway));
        // The test's deployment has no route to PostgreSQL.
        let unable = fixture.environment.unable_gateway(postgres_key(15)).expect("no route").to_string();
        assert!(unable.contains("no TLSRoute that leads to postgres-15-documented"), "{unable}");
    }
}
