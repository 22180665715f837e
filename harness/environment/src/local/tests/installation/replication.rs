//! Streaming replication to a replica, by the replication certificate.

use super::*;
use crate::{Replication, ReplicationState};
use model::server::DeploymentKind;

const REPLICATION: &str = "nautobot-cluster-replication";

/// As a timeline asks.
const PROBE: Duration = Duration::from_millis(400);

/// Enough for a change to arrive after a reconnection on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn replicated(key: ServerKey) -> InstallOptions {
    let mut options = InstallOptions { with: vec![Target::Replica], ..options(key) };
    if key.deployment == DeploymentKind::Documented {
        // CloudNativePG has such a line by itself.
        let lines = ["hostssl replication streaming_replica all cert", "hostssl all all 0.0.0.0/0 cert"];
        options.config.pg_hba = Some(lines.map(str::to_owned).to_vec());
    }
    options
}

async fn installed(fixture: &Fixture, key: ServerKey) -> (Arc<dyn Installation>, Arc<dyn Replication>) {
    let installation = fixture.environment.install(&replicated(key)).await.expect("it is installed");
    let replication = installation.replication().expect("it has a replica");
    (installation, replication)
}

async fn arrives(replication: &Arc<dyn Replication>) -> Duration {
    match replication.probe(PATIENCE).await.expect("it can be looked at") {
        ReplicationState::Arrived(took) => took,
        other => panic!("{other:?}"),
    }
}

async fn refusal(replication: &Arc<dyn Replication>) -> String {
    match replication.probe(PROBE).await.expect("it can be looked at") {
        ReplicationState::Refused(words) => words,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_arrive_by_the_replication_certificate_on_every_version_and_deployment() {
    let fixture = fixture();
    for build in toolchain().postgres {
        for deployment in DeploymentKind::ALL {
            let key = ServerKey { deployment, ..postgres_key(build.major) };
            let (installation, replication) = installed(&fixture, key).await;
            arrives(&replication).await;
            let primary = std::fs::read_to_string(installation.server(Target::Postgres).expect("a primary").log_path()).expect("a log");
            for text in [
                r#"connection authenticated: identity=\"CN=streaming_replica\" method=cert"#,
                "replication connection authorized: user=streaming_replica application_name=nautobot-cluster-2 SSL enabled",
            ] {
                assert!(primary.contains(text), "{key}: {text} is in {primary}");
            }
            // What asks leaves no lines of its own.
            for _ in 0..3 {
                arrives(&replication).await;
            }
            let lines = |target| std::fs::read_to_string(installation.server(target).expect("a server").log_path()).expect("a log");
            assert!(lines(Target::Replica).matches("connection authorized: user=mtls_conformance").count() <= 1);
            installation.close().await;
        }
    }
    super::super::postgres::assert_nothing_left(fixture.run.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_replication_certificate_is_refused_at_the_next_connection_and_a_sync_heals_it() {
    let fixture = fixture();
    let (installation, replication) = installed(&fixture, postgres()).await;
    arrives(&replication).await;
    // A new CA under the same name, which the primary alone takes.
    apply(&installation, [rekey(CA), renew(CA_COPY), Change::Sync(Target::Postgres), Change::Reload(Target::Postgres)]).await;
    arrives(&replication).await;
    apply(&installation, [Change::Disconnect(Target::Replica)]).await;
    let words = refusal(&replication).await;
    assert!(words.contains("alert unknown ca") && words.starts_with("connection to server at"), "{words}");
    // The replica's own certificate of the new CA is not enough while it verifies the primary with the new CA, too.
    // (A connection that was begun before the sync may have read the old root and then the new certificate: it ends.)
    apply(&installation, [renew(REPLICATION), Change::Sync(Target::Replica), Change::Disconnect(Target::Replica)]).await;
    let words = refusal(&replication).await;
    assert!(words.contains("certificate verify failed"), "{words}");
    apply(&installation, [renew(SERVER), Change::Sync(Target::Postgres), Change::Reload(Target::Postgres)]).await;
    arrives(&replication).await;
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_refused_as_another_users() {
    let fixture = fixture();
    let (installation, replication) = installed(&fixture, postgres()).await;
    arrives(&replication).await;
    let other = Reissue { patch: Some(serde_json::json!({"commonName": "app"})), ..reissue(REPLICATION) };
    apply(&installation, [Change::Renew(other), Change::Sync(Target::Replica), Change::Disconnect(Target::Replica)]).await;
    let words = refusal(&replication).await;
    assert!(words.contains(r#"certificate authentication failed for user "streaming_replica""#), "{words}");
    apply(
        &installation,
        [Change::Renew(Reissue { patch: Some(serde_json::json!({"commonName": "streaming_replica"})), ..reissue(REPLICATION) })],
    )
    .await;
    refusal(&replication).await;
    apply(&installation, [Change::Sync(Target::Replica)]).await;
    arrives(&replication).await;
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_either_server_are_survived_and_what_was_written_meanwhile_arrives() {
    let fixture = fixture();
    let (installation, replication) = installed(&fixture, postgres()).await;
    arrives(&replication).await;
    apply(&installation, [Change::Stop(Target::Replica)]).await;
    assert_eq!(replication.probe(PROBE).await.expect("it can be looked at"), ReplicationState::Silent);
    // The primary's checkpoint at its stop leaves the replica what it needs.
    apply(&installation, [Change::Restart(Target::Postgres)]).await;
    apply(&installation, [Change::Start(Target::Replica)]).await;
    arrives(&replication).await;
    apply(&installation, [Change::Restart(Target::Replica), Change::Reload(Target::Replica)]).await;
    arrives(&replication).await;
    apply(&installation, [Change::Disconnect(Target::Postgres)]).await;
    arrives(&replication).await;
    apply(&installation, [Change::Stop(Target::Postgres)]).await;
    let words = refusal(&replication).await;
    assert!(words.contains("Connection refused"), "{words}");
    apply(&installation, [Change::Start(Target::Postgres)]).await;
    arrives(&replication).await;
    installation.close().await;
}
