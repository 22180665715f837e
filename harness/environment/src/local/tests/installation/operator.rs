//! What the operator notices.

use super::*;
use model::change::ClusterPatch;

#[tokio::test(flavor = "multi_thread")]
async fn a_labelled_secret_is_noticed_and_another_is_not() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    // The shipped Certificate has the label in its secretTemplate.
    apply(&installation, [renew(SERVER), Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, sha256(&installation, SERVER));
    let before = sha256(&installation, SERVER);
    let plain = Change::Renew(Reissue { patch: Some(serde_json::json!({"secretTemplate": null})), ..reissue(SERVER) });
    apply(&installation, [plain, Change::Reconcile]).await;
    assert_ne!(sha256(&installation, SERVER), before);
    assert_eq!(shown(&installation).await, before, "without the label nothing happens");
    // Setting it is a change of the Secret that has the label.
    apply(&installation, [label(SERVER, Some("")), Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, sha256(&installation, SERVER));
    let before = sha256(&installation, SERVER);
    apply(&installation, [label(SERVER, None), renew(SERVER), Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, before, "the label is gone again");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_change_of_the_cluster_brings_all_its_secrets_up_to_date() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let plain = Change::Renew(Reissue { patch: Some(serde_json::json!({"secretTemplate": null})), ..reissue(SERVER) });
    let before = sha256(&installation, SERVER);
    apply(&installation, [plain, Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, before);
    let annotate = ClusterPatch { annotations: [("cnpg.io/reconcile".to_owned(), "1".to_owned())].into(), certificates: BTreeMap::new() };
    apply(&installation, [Change::PatchCluster(annotate.clone()), Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, sha256(&installation, SERVER));
    // The same again changes nothing.
    let before = sha256(&installation, SERVER);
    apply(&installation, [renew(SERVER), Change::PatchCluster(annotate), Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, before);
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_names_other_secrets() {
    let fixture = fixture();
    let installation = install(&fixture, postgres()).await;
    let patch = |field: &str, secret: &str| {
        Change::PatchCluster(ClusterPatch { certificates: [(field.to_owned(), secret.to_owned())].into(), annotations: BTreeMap::new() })
    };
    assert!(error(&installation, patch("serverTLS", CLIENT)).await.contains("serverTLSSecret, serverCASecret"));
    assert!(error(&installation, patch("serverTLSSecret", "nothing")).await.contains("known are mtls-ca-cert"));
    apply(&installation, [patch("serverTLSSecret", CLIENT)]).await;
    assert_eq!(shown(&installation).await, sha256(&installation, SERVER));
    apply(&installation, [Change::Reconcile]).await;
    assert_eq!(shown(&installation).await, sha256(&installation, CLIENT));
    installation.close().await;
}
