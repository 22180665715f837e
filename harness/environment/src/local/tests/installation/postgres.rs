//! PostgreSQL.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_shown_after_sync_and_reload_and_not_before_and_open_sessions_stay() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let first = sha256(&installation, SERVER);
    let (open, shown_first) = session(&installation).await.expect("a session");
    assert_eq!(shown_first, first);
    apply(&installation, [renew(SERVER)]).await;
    let second = sha256(&installation, SERVER);
    assert_ne!(first, second);
    assert_eq!(sha256(&installation, "nautobot-cluster-server-tls@1"), first);
    let server = installation.server(Target::Postgres).expect("a PostgreSQL");
    let file = server.file("server.crt").expect("it has one");
    let before = std::fs::read(&file).expect("readable");
    // Issued: neither file nor server know it. A reload now reads the old file again.
    apply(&installation, [Change::Reload(Target::Postgres)]).await;
    assert_eq!(shown(&installation).await, first);
    apply(&installation, [Change::Sync(Target::Postgres)]).await;
    assert_ne!(std::fs::read(&file).expect("readable"), before, "the file is the new one");
    assert_eq!(shown(&installation).await, first, "and the server goes on with the old one");
    apply(&installation, [Change::Reload(Target::Postgres)]).await;
    assert_eq!(shown(&installation).await, second);
    open.simple_query("SELECT 1").await.expect("the session from before is there");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_at_reload_is_objected_to_and_the_old_context_stays_on_every_version() {
    let fixture = fixture();
    for build in toolchain().postgres {
        let installation = install(&fixture, postgres_key(build.major)).await;
        let first = sha256(&installation, SERVER);
        let server = installation.server(Target::Postgres).expect("a PostgreSQL");
        let mark = server.log_mark();
        let bad = overwrite(SERVER, SecretFile::Key, Content::Secret(CLIENT.to_owned()));
        apply(&installation, [renew(SERVER), bad, Change::Sync(Target::Postgres)]).await;
        let said = objection(&installation, Change::Reload(Target::Postgres)).await;
        assert!(said.contains("key values mismatch") && said.contains("SSL configuration was not reloaded"), "{said}");
        assert!(server.says_since(mark, &|lines| lines.iter().any(|line| line.contains("was not reloaded")), LIMIT).await.len() > 1);
        assert_eq!(shown(&installation).await, first);
        installation.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_certificate_at_restart_is_objected_to_on_every_version() {
    let fixture = fixture();
    for build in toolchain().postgres {
        let installation = install(&fixture, postgres_key(build.major)).await;
        let bad = overwrite(SERVER, SecretFile::Certificate, Content::Garbage);
        apply(&installation, [bad, Change::Sync(Target::Postgres)]).await;
        let said = objection(&installation, Change::Restart(Target::Postgres)).await;
        assert!(said.starts_with("FATAL: could not load server certificate file"), "PostgreSQL {}: {said}", build.major);
        apply(&installation, [renew(SERVER), Change::Sync(Target::Postgres), Change::Restart(Target::Postgres)]).await;
        session(&installation).await.expect("mended");
        installation.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_at_restart_keeps_it_down_until_it_is_mended_and_the_address_stays() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let server = installation.server(Target::Postgres).expect("a PostgreSQL");
    let (address, mark) = (server.address(), server.log_mark());
    let (open, _) = session(&installation).await.expect("a session");
    let bad = overwrite(SERVER, SecretFile::Key, Content::Garbage);
    apply(&installation, [bad, Change::Sync(Target::Postgres)]).await;
    let said = objection(&installation, Change::Restart(Target::Postgres)).await;
    assert!(said.contains("could not load private key file") && !said.contains("UTC"), "{said}");
    open.simple_query("SELECT 1").await.expect_err("a restart ends sessions");
    let refused = session(&installation).await.map(drop).expect_err("nobody listens");
    assert!(refused.contains("refused"), "{refused}");
    assert!(error(&installation, Change::Reload(Target::Postgres)).await.contains("is stopped"));
    assert!(error(&installation, Change::Stop(Target::Postgres)).await.contains("is stopped"));
    apply(&installation, [renew(SERVER), Change::Sync(Target::Postgres), Change::Start(Target::Postgres)]).await;
    assert_eq!(server.address(), address);
    assert_eq!(shown(&installation).await, sha256(&installation, SERVER));
    assert!(error(&installation, Change::Start(Target::Postgres)).await.contains("runs already"));
    // The log is one over the restarts.
    let told = |lines: &[model::observation::LogLine]| {
        lines.iter().any(|line| line.contains("database system is shut down")) && lines.iter().any(|line| line.contains("ready to accept"))
    };
    assert!(told(&server.says_since(mark, &told, LIMIT).await));
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_new_ca_key_new_leaves_are_refused_until_the_copy_of_the_root_is_renewed_and_reloaded() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    // The old client certificate keeps working: nothing of it has changed.
    apply(&installation, [rekey(CA), Change::Sync(Target::Postgres), Change::Reload(Target::Postgres), Change::Sync(Target::Client)]).await;
    session(&installation).await.expect("the old certificate and the old root");
    apply(&installation, [renew(CLIENT), Change::Sync(Target::Client)]).await;
    let refused = session(&installation).await.map(drop).expect_err("signed by a key that the server doesn't know");
    assert!(refused.contains("UnknownCA"), "{refused}");
    apply(&installation, [renew(CA_COPY)]).await;
    session(&installation).await.map(drop).expect_err("nothing was synced");
    apply(&installation, [Change::Sync(Target::Postgres), Change::Reload(Target::Postgres)]).await;
    session(&installation).await.expect("the new certificate and the new root");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_both_roots_takes_old_and_new_certificates() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let bundle = Content::Certificates(vec![CA.to_owned(), "mtls-ca@1".to_owned()]);
    apply(&installation, [rekey(CA), overwrite(CA_COPY, SecretFile::Ca, bundle)]).await;
    apply(&installation, [Change::Sync(Target::Postgres), Change::Reload(Target::Postgres)]).await;
    session(&installation).await.expect("the old certificate");
    apply(&installation, [rekey(CLIENT), Change::Sync(Target::Client)]).await;
    session(&installation).await.expect("the new certificate");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_taken_at_the_next_reload_and_bad_ones_are_objected_to() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    apply(&installation, [Change::PgHba(vec!["hostssl all all all reject".to_owned()])]).await;
    session(&installation).await.expect("only the file has changed");
    apply(&installation, [Change::Reload(Target::Postgres)]).await;
    let refused = session(&installation).await.map(drop).expect_err("rejected");
    assert!(refused.contains("pg_hba.conf rejects connection"), "{refused}");
    // The harness itself is still let in.
    apply(&installation, [Change::Disconnect(Target::Postgres), Change::PgHba(vec!["bad".to_owned()])]).await;
    let said = objection(&installation, Change::Reload(Target::Postgres)).await;
    assert!(said.contains("pg_hba.conf was not reloaded"), "{said}");
    apply(&installation, [Change::PgHba(vec!["hostssl all all all cert".to_owned()]), Change::Reload(Target::Postgres)]).await;
    session(&installation).await.expect("mended");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_list_is_taken_at_the_next_reload_and_names_one_certificate_not_its_successor() {
    let fixture = fixture();
    let usages = serde_json::json!({"usages": ["digital signature", "key encipherment", "cert sign", "crl sign"]});
    let ca = Change::Renew(Reissue { patch: Some(usages), ..reissue(CA) });
    let setup = vec![ca, renew(CA_COPY), renew(CLIENT)];
    let installation = fixture.environment.install(&InstallOptions { setup, ..options(postgres()) }).await.expect("it is installed");
    let validity = Validity { not_before: "-1h".to_owned(), not_after: "1h".to_owned() };
    let crl = CrlOf { issuer: CA.to_owned(), revoked: vec![CLIENT.to_owned()], validity };
    apply(&installation, [Change::Crl(crl)]).await;
    assert!(installation.server(Target::Postgres).expect("there").file("client.crl").is_some());
    session(&installation).await.expect("not read yet");
    apply(&installation, [Change::Reload(Target::Postgres)]).await;
    let refused = session(&installation).await.map(drop).expect_err("revoked");
    assert!(refused.contains("CertificateRevoked"), "{refused}");
    apply(&installation, [renew(CLIENT), Change::Sync(Target::Client)]).await;
    session(&installation).await.expect("another serial number");
    apply(&installation, [Change::DropCrl, Change::Reload(Target::Postgres)]).await;
    assert!(installation.server(Target::Postgres).expect("there").file("client.crl").is_none());
    session(&installation).await.expect("no list");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_two_seconds_is_refused_once_its_end_has_passed() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let validity = Some(Validity { not_before: "-1h".to_owned(), not_after: "2s".to_owned() });
    let short = Change::Renew(Reissue { validity, ..reissue(CLIENT) });
    let issued = std::time::Instant::now();
    apply(&installation, [short, Change::Sync(Target::Client)]).await;
    let (open, _) = session(&installation).await.expect("it is valid for a second at least");
    apply(&installation, [Change::AwaitExpiry(CLIENT.to_owned())]).await;
    assert!(issued.elapsed() < Duration::from_millis(3100), "{:?}: at most a second later than asked for", issued.elapsed());
    let refused = session(&installation).await.map(drop).expect_err("expired");
    assert!(refused.contains("CertificateExpired"), "{refused}");
    open.simple_query("SELECT 1").await.expect("a session outlives its certificate");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_ends_sessions_and_new_ones_are_taken_whatever_the_deployments_rules() {
    let fixture = fixture();
    for deployment in DeploymentKind::ALL {
        let installation = install(&fixture, ServerKey { deployment, ..postgres() }).await;
        let (open, _) = session(&installation).await.expect("a session");
        apply(&installation, [Change::Disconnect(Target::Postgres)]).await;
        let ended = open.simple_query("SELECT 1").await.expect_err("ended");
        assert!(ended.is_closed() || ended.code() == Some(&tokio_postgres::error::SqlState::ADMIN_SHUTDOWN), "{ended:?}");
        session(&installation).await.expect("a new one");
        installation.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_installation_changes_its_server() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let server = installation.server(Target::Postgres).expect("a PostgreSQL");
    let refused = server.apply(&ServerConfig::default()).await.expect_err("not this way").to_string();
    assert!(refused.contains("belongs to an installation"), "{refused}");
    assert!(error(&installation, Change::Sync(Target::Redis)).await.contains("it has postgres"));
    assert!(error(&installation, Change::Push).await.contains("has no site"));
    assert!(error(&installation, renew("nobody")).await.contains("known are mtls-ca"));
    assert!(error(&installation, Change::DeleteSecret("nothing".to_owned())).await.contains("known are mtls-ca-cert"));
    installation.close().await;
}
