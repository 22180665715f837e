//! A site: from the global cluster's Secrets through the provider to what its pods mount.

use super::*;

const SITE: &str = "nautobot-mtls-client-site-dc";

async fn with_site(fixture: &Fixture) -> Arc<dyn Installation> {
    let options = InstallOptions { with: vec![Target::Site], ..options(postgres()) };
    fixture.environment.install(&options).await.expect("it is installed")
}

fn site_pair(installation: &Arc<dyn Installation>) -> Pair {
    mounted(&installation.mount(Target::Site).expect("a site mounts a Secret"))
}

/// SHA-256 of the first certificate of a PEM text, in hex.
fn sha256_of(pem: &str) -> String {
    use rustls::pki_types::pem::PemObject as _;
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    Sha256::digest(der.as_ref()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_reaches_the_sites_mount_by_push_refresh_and_sync_and_by_no_two_of_them() {
    let fixture = fixture();
    let installation = with_site(&fixture).await;
    let first = sha256(&installation, SITE);
    let seen = || sha256_of(&site_pair(&installation).certificate);
    assert_eq!(seen(), first);
    apply(&installation, [rekey(SITE)]).await;
    let second = sha256(&installation, SITE);
    apply(&installation, [Change::Refresh, Change::Sync(Target::Site)]).await;
    assert_eq!(seen(), first, "nobody pushed it");
    apply(&installation, [Change::Push, Change::Refresh]).await;
    assert_eq!(seen(), first, "the mount is not refreshed");
    apply(&installation, [Change::Sync(Target::Site)]).await;
    assert_eq!(seen(), second);
    assert_ne!(sha256_of(&client_pair(&installation).certificate), second, "the global cluster's pods have their own");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_external_secrets_refuses_is_an_objection_and_changes_nothing() {
    let fixture = fixture();
    let installation = with_site(&fixture).await;
    let before = sha256_of(&site_pair(&installation).certificate);
    apply(&installation, [overwrite("mtls-ca-cert", SecretFile::Ca, Content::Garbage), rekey(SITE), Change::Push]).await;
    let objection = objection(&installation, Change::Refresh).await;
    assert!(objection.contains("`ca.crt`") && objection.contains("found junk"), "{objection}");
    apply(&installation, [Change::Sync(Target::Site)]).await;
    assert_eq!(sha256_of(&site_pair(&installation).certificate), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_without_a_site_has_nothing_to_push() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    assert!(installation.mount(Target::Site).is_none());
    for change in [Change::Push, Change::Refresh] {
        assert!(error(&installation, change).await.contains("has no site"));
    }
}
