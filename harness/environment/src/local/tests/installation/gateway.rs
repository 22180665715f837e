//! The gateway of an installation.

use super::*;

fn with_gateway(key: ServerKey) -> InstallOptions {
    InstallOptions { with: vec![Target::Gateway], ..options(key) }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_stops_starts_and_restarts_in_its_place_and_ends_with_its_installation() {
    if !super::super::gateway::has_haproxy() {
        return;
    }
    let fixture = fixture();
    let installation = fixture.environment.install(&with_gateway(redis_key())).await.expect("it is installed");
    let gateway = installation.gateway().expect("it has one");
    let route = gateway.route(Service::Redis).expect("a route");
    assert_eq!(route.host, "nautobot-redis.dc.example.com");
    let (pair, password) = (client_pair(&installation), installation.server(Target::Redis).expect("a server").password());
    let ping = async || ping_redis_as(&route.host, route.address, Some(&pair), &password).await;
    let (client, answer) = ping().await;
    answer.expect("a session");
    assert!(gateway.upstreams(&[client], LIMIT).await[0].is_some());
    apply(&installation, [Change::Stop(Target::Gateway)]).await;
    TcpStream::connect(route.address).await.expect_err("it is stopped");
    apply(&installation, [Change::Start(Target::Gateway)]).await;
    ping().await.1.expect("a session");
    apply(&installation, [Change::Restart(Target::Gateway)]).await;
    let (client, answer) = ping().await;
    answer.expect("a session");
    let seen = gateway.upstreams(&[client], LIMIT).await;
    assert!(seen[0].is_some(), "its log goes on: {client} {}", std::fs::read_to_string(gateway.log_path()).expect("a log"));
    assert!(error(&installation, Change::Reload(Target::Gateway)).await.contains("can be stopped, started and restarted"));
    installation.close().await;
    super::super::postgres::assert_nothing_left(fixture.run.path()).await;
    // One that is dropped without a close.
    let installation = fixture.environment.install(&with_gateway(redis_key())).await.expect("it is installed");
    let gateway = installation.gateway().expect("it has one");
    drop(installation);
    super::super::postgres::assert_nothing_left(fixture.run.path()).await;
    drop(gateway);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_can_not_start_is_an_error_whose_log_stays() {
    if !super::super::gateway::has_haproxy() {
        return;
    }
    let fixture = Fixture::with(|options, _| {
        options.template = Some(template());
        options.toolchain.haproxy.as_mut().expect("it is there").path = PathBuf::from("/bin/false");
    });
    let error = fixture.environment.install(&with_gateway(redis_key())).await.map(drop).expect_err("it can't start");
    assert!(error.to_string().contains("/gateway did not start: `/bin/false"), "{error}");
    assert!(error.log().expect("a log").is_file(), "{error}");
    super::super::postgres::assert_nothing_left(fixture.run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_a_gateway_says_so() {
    let fixture = fixture();
    let installation = install(&fixture, redis_key()).await;
    assert!(installation.gateway().is_none() && installation.replication().is_none());
    assert!(error(&installation, Change::Stop(Target::Gateway)).await.contains("was made without a gateway"));
}
