//! Beginning and end.

use super::super::postgres::assert_nothing_left;
use super::*;

/// The directories of installations in a run directory.
fn directories(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run).expect("readable").map(|entry| entry.expect("readable").path());
    entries.filter(|path| path.join("client").exists() || path.join("postgres").exists() || path.join("redis").exists()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn several_at_once_have_cas_secrets_servers_and_directories_of_their_own() {
    let fixture = fixture();
    let (key, redis) = (options(postgres()), options(redis_key()));
    let (one, other, redis) =
        tokio::join!(fixture.environment.install(&key), fixture.environment.install(&key), fixture.environment.install(&redis));
    let (one, other, redis) = (one.expect("installed"), other.expect("installed"), redis.expect("installed"));
    assert_eq!(directories(fixture.run.path()).len(), 3);
    assert_ne!(sha256(&one, CA), sha256(&other, CA));
    assert_eq!(shown(&one).await, sha256(&one, SERVER));
    assert_eq!(shown(&other).await, sha256(&other, SERVER));
    let refused = {
        let address = other.server(Target::Postgres).expect("a PostgreSQL").address();
        connect_postgres(address, Some(&client_pair(&one))).await.1.expect_err("another CA")
    };
    assert!(refused.contains("UnknownCA"), "{refused}");
    for installation in [&one, &other, &redis] {
        installation.close().await;
    }
    assert_nothing_left(fixture.run.path()).await;
    assert_eq!(directories(fixture.run.path()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_installation_leaves_no_process_and_no_directory_even_if_its_server_is_held() {
    let fixture = fixture();
    for (key, target) in [(postgres(), Target::Postgres), (redis_key(), Target::Redis)] {
        let installation = install(&fixture, key).await;
        let server = installation.server(target).expect("a server");
        assert!(!os::tree::processes_in(fixture.run.path()).is_empty());
        drop(installation);
        assert_nothing_left(fixture.run.path()).await;
        assert_eq!(directories(fixture.run.path()), Vec::<PathBuf>::new());
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_the_environment_closes_its_installations() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    fixture.environment.close().await;
    assert_nothing_left(fixture.run.path()).await;
    assert_eq!(directories(fixture.run.path()), Vec::<PathBuf>::new());
    assert!(error(&installation, Change::Reload(Target::Postgres)).await.contains("is stopped"));
    let refused = fixture.environment.install(&options(postgres())).await.map(drop).expect_err("closed").to_string();
    assert!(refused.contains("closed"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_is_there_at_the_start_and_what_runs_can_not_be_set_up() {
    let fixture = fixture();
    let rules = Change::PgHba(vec!["hostssl all all all reject".to_owned()]);
    let setup = vec![renew(SERVER), rules, Change::Sync(Target::Postgres)];
    let installation = fixture.environment.install(&InstallOptions { setup, ..options(postgres()) }).await.expect("installed");
    let refused = session(&installation).await.map(drop).expect_err("rejected");
    assert!(refused.contains("pg_hba.conf rejects connection"), "{refused}");
    assert_ne!(sha256(&installation, SERVER), sha256(&installation, "nautobot-cluster-server-tls@1"));
    // What was set up is no news to the operator.
    apply(&installation, [Change::PgHba(vec!["hostssl all all all cert".to_owned()]), Change::Reconcile]).await;
    session(&installation).await.map(drop).expect_err("no reload took place");
    apply(&installation, [Change::Reload(Target::Postgres)]).await;
    assert_eq!(shown(&installation).await, sha256(&installation, SERVER));
    installation.close().await;
    let setup = vec![Change::Restart(Target::Postgres)];
    let refused = fixture.environment.install(&InstallOptions { setup, ..options(postgres()) }).await.map(drop).expect_err("nothing runs");
    assert!(refused.to_string().contains("restart postgres") && refused.to_string().contains("nothing runs yet"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_is_an_error_with_the_servers_words_and_leaves_its_log_alone() {
    let fixture = fixture();
    let setup = vec![overwrite(SERVER, SecretFile::Key, Content::Removed)];
    let refused = fixture.environment.install(&InstallOptions { setup, ..options(postgres()) }).await.map(drop).expect_err("no key");
    assert!(
        matches!(&refused, EnvironmentError::Start { source, .. } if matches!(&**source, StartCause::Ended { said, .. } if said.contains("server.key"))),
        "{refused}"
    );
    let log = refused.log().expect("it names a log");
    assert!(std::fs::read_to_string(log).expect("the log is there").contains("server.key"));
    assert_nothing_left(fixture.run.path()).await;
    let root = log.parent().expect("it is in the server's directory");
    let mut left: Vec<_> = std::fs::read_dir(root).expect("readable").map(|entry| entry.expect("readable").file_name()).collect();
    left.sort();
    assert_eq!(left, ["log", "output.log"]);
    assert!(!root.with_file_name("client").exists(), "no key stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_manifests_or_with_what_is_not_there_nothing_is_installed() {
    let fixture = Fixture::new();
    let refused = fixture.environment.install(&options(postgres())).await.map(drop).expect_err("no manifests").to_string();
    assert!(refused.contains("no manifests"), "{refused}");
    let fixture = super::fixture();
    // A replica is one of PostgreSQL.
    let with = vec![Target::Replica];
    let refused =
        fixture.environment.install(&InstallOptions { with, ..options(redis_key()) }).await.map(drop).expect_err("none").to_string();
    assert!(refused.contains("no replica for it"), "{refused}");
    let config = ServerConfig { certificate: Some("app".to_owned()), ..ServerConfig::default() };
    let refused = fixture.environment.install(&InstallOptions { config, ..options(postgres()) }).await.map(drop).expect_err("a name");
    assert!(refused.to_string().contains("`certificate`"), "{refused}");
}

/// Prints what things cost; run by hand: `cargo test --lib figures -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures, asserts nothing"]
#[expect(clippy::print_stderr, reason = "its output is its purpose")]
async fn figures_of_installations() {
    let fixture = fixture();
    for key in [postgres(), redis_key()] {
        let target = Target::from(key.service);
        for _ in 0..3 {
            let start = std::time::Instant::now();
            let installation = install(&fixture, key).await;
            eprintln!("{key}: install {:?}", start.elapsed());
            for change in [Change::Sync(target), Change::Reload(target), Change::Restart(target), Change::Disconnect(target)] {
                let start = std::time::Instant::now();
                installation.apply(&change).await.expect("done");
                eprintln!("{key}: {change} {:?}", start.elapsed());
            }
            let start = std::time::Instant::now();
            installation.close().await;
            eprintln!("{key}: close {:?}", start.elapsed());
        }
    }
}
