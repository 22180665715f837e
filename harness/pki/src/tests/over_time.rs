//! cert-manager over time.

use std::time::{Duration, SystemTime};

use serde_json::json;
use x509_parser::prelude::*;

use super::*;
use model::change::{Content, CrlOf, Label, Overwrite, Reissue};
use model::credential::Validity;

const CA: &str = "mtls-ca";
const CA_SECRET: &str = "mtls-ca-key-pair";
const COPY: &str = "mtls-ca-cert";
const CLIENT: &str = "nautobot-mtls-client";
const SERVER: &str = "nautobot-cluster-server-tls";

fn cert_manager() -> CertManager {
    let manifests = Manifests::load(&repository().join("kind/deployment")).expect("the shipped manifests are valid");
    CertManager::new(&Arc::new(manifests)).expect("everything is issued")
}

fn reissue(certificate: &str) -> Reissue<String> {
    Reissue { certificate: certificate.to_owned(), validity: None, patch: None }
}

fn patched(certificate: &str, patch: serde_json::Value) -> Reissue<String> {
    Reissue { patch: Some(patch), ..reissue(certificate) }
}

fn overwrite(secret: &str, key: SecretFile, with: Content<String>) -> Overwrite<String> {
    Overwrite { secret: secret.to_owned(), key, with }
}

fn label(secret: &str, value: Option<&str>) -> Label<String> {
    Label { secret: secret.to_owned(), label: "cnpg.io/reload".to_owned(), value: value.map(str::to_owned) }
}

fn content(cert_manager: &CertManager, secret: &str, file: SecretFile) -> String {
    cert_manager.secret(secret).expect(secret).content(file).expect("it holds that").to_owned()
}

/// Serial number, public key, and notBefore and notAfter in seconds.
fn facts(cert_manager: &CertManager, secret: &str) -> (String, Vec<u8>, i64, i64) {
    let pem = content(cert_manager, secret, SecretFile::Certificate);
    let (_, pem) = parse_x509_pem(pem.as_bytes()).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    let validity = certificate.validity();
    let key = certificate.public_key().raw.to_vec();
    (certificate.raw_serial_as_string(), key, validity.not_before.timestamp(), validity.not_after.timestamp())
}

/// Whether `openssl verify` takes the certificate of one Secret with these roots.
fn verifies(roots: &str, certificate: &str, options: &[&str]) -> bool {
    let directory = tempfile::tempdir().expect("a directory");
    let (ca, leaf) = (directory.path().join("ca"), directory.path().join("leaf"));
    std::fs::write(&ca, roots).expect("writes");
    std::fs::write(&leaf, certificate).expect("writes");
    let output = Command::new("openssl").arg("verify").args(options).arg("-CAfile").arg(ca).arg(leaf).output();
    output.expect("openssl runs").status.success()
}

#[test]
fn at_the_start_everything_is_issued_as_the_manifests_say() {
    let cert_manager = cert_manager();
    let root = content(&cert_manager, CA_SECRET, SecretFile::Certificate);
    let names: Vec<&str> = cert_manager.secrets().collect();
    assert_eq!(names.len(), cert_manager.manifests().certificates.len());
    for secret in names {
        let certificate = content(&cert_manager, secret, SecretFile::Certificate);
        assert_eq!(content(&cert_manager, secret, SecretFile::Ca), root, "{secret}");
        assert!(verifies(&root, &certificate, &[]), "{secret}");
    }
    assert!(cert_manager.secret(SERVER).expect("there").labels().contains_key("cnpg.io/reload"));
    assert!(cert_manager.secret(CLIENT).expect("there").labels().is_empty());
}

/// OpenSSL's clock may be behind ours.
#[test]
fn what_is_issued_without_a_time_is_valid_for_a_clock_that_is_behind() {
    let mut cert_manager = cert_manager();
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    let behind = |root: &str, leaf: &str| verifies(root, leaf, &["-attime", &(now() - 30).to_string()]);
    for _ in 0..2 {
        let root = content(&cert_manager, CA_SECRET, SecretFile::Certificate);
        for secret in cert_manager.secrets() {
            let certificate = content(&cert_manager, secret, SecretFile::Certificate);
            assert!(behind(&root, &certificate), "{secret}");
        }
        for certificate in [CA, CLIENT, SERVER] {
            cert_manager.renew(&reissue(certificate)).expect("renewed");
        }
    }
    let said = Validity { not_before: "0s".to_owned(), not_after: "1h".to_owned() };
    cert_manager.renew(&Reissue { validity: Some(said), ..reissue(CLIENT) }).expect("renewed");
    let root = content(&cert_manager, CA_SECRET, SecretFile::Certificate);
    assert!(!behind(&root, &content(&cert_manager, CLIENT, SecretFile::Certificate)), "what a scenario says holds");
}

#[test]
fn renewal_keeps_the_key_and_touches_no_other_secret() {
    let mut cert_manager = cert_manager();
    let before = facts(&cert_manager, CLIENT);
    let (key, first) = (content(&cert_manager, CLIENT, SecretFile::Key), cert_manager.sha256(CLIENT).expect("known"));
    let versions = |cert_manager: &CertManager| -> Vec<(String, u64)> {
        cert_manager.secrets().map(|name| (name.to_owned(), cert_manager.secret(name).expect(name).version())).collect()
    };
    let old = versions(&cert_manager);
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    let after = facts(&cert_manager, CLIENT);
    assert_eq!((&after.1, content(&cert_manager, CLIENT, SecretFile::Key)), (&before.1, key));
    assert_ne!(after.0, before.0, "another serial number");
    assert_eq!(after.3 - after.2, 26_280 * 3600);
    let changed: Vec<String> = versions(&cert_manager).into_iter().zip(old).filter(|(new, old)| new != old).map(|(new, _)| new.0).collect();
    assert_eq!(changed, [CLIENT]);
    assert_eq!(cert_manager.sha256("nautobot-mtls-client@1").expect("known"), first);
    assert_eq!(cert_manager.sha256("nautobot-mtls-client@2").expect("known"), cert_manager.sha256(CLIENT).expect("known"));
}

#[test]
fn renewal_after_a_new_key_keeps_the_new_one() {
    let mut cert_manager = cert_manager();
    let first = facts(&cert_manager, CLIENT).1;
    cert_manager.rekey(&reissue(CLIENT)).expect("rekeyed");
    let second = facts(&cert_manager, CLIENT).1;
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    assert_ne!(first, second);
    assert_eq!(facts(&cert_manager, CLIENT).1, second);
}

#[test]
fn a_renewed_ca_with_its_key_and_the_old_one_verify_old_and_new_leaves_both_ways() {
    let mut cert_manager = cert_manager();
    let (old_root, old_leaf) = (content(&cert_manager, CA_SECRET, SecretFile::Ca), content(&cert_manager, CLIENT, SecretFile::Certificate));
    cert_manager.renew(&reissue(CA)).expect("renewed");
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    let (new_root, new_leaf) = (content(&cert_manager, CA_SECRET, SecretFile::Ca), content(&cert_manager, CLIENT, SecretFile::Certificate));
    assert_ne!(old_root, new_root);
    for root in [&old_root, &new_root] {
        for leaf in [&old_leaf, &new_leaf] {
            assert!(verifies(root, leaf, &[]));
        }
    }
}

#[test]
fn a_rekeyed_ca_reissues_no_leaf_and_refreshes_no_ca_crt_and_signs_with_its_new_key_from_then_on() {
    let mut cert_manager = cert_manager();
    let old_root = content(&cert_manager, CA_SECRET, SecretFile::Ca);
    let old_copy = cert_manager.secret(COPY).expect("there").clone();
    let old_leaf = content(&cert_manager, CLIENT, SecretFile::Certificate);
    cert_manager.rekey(&reissue(CA)).expect("rekeyed");
    let new_root = content(&cert_manager, CA_SECRET, SecretFile::Ca);
    assert_eq!(content(&cert_manager, CA_SECRET, SecretFile::Certificate), new_root);
    assert_eq!(cert_manager.secret(COPY).expect("there"), &old_copy);
    assert_eq!(content(&cert_manager, CLIENT, SecretFile::Certificate), old_leaf);
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    let new_leaf = content(&cert_manager, CLIENT, SecretFile::Certificate);
    assert_eq!(content(&cert_manager, CLIENT, SecretFile::Ca), new_root);
    assert!(verifies(&new_root, &new_leaf, &[]) && verifies(&old_root, &old_leaf, &[]));
    assert!(!verifies(&old_root, &new_leaf, &[]) && !verifies(&new_root, &old_leaf, &[]));
    let both = Content::Certificates(vec![CA.to_owned(), "mtls-ca@1".to_owned()]);
    cert_manager.overwrite(&overwrite(COPY, SecretFile::Ca, both)).expect("written");
    let both = content(&cert_manager, COPY, SecretFile::Ca);
    assert_eq!(both, format!("{new_root}{old_root}"));
    assert!(verifies(&both, &new_leaf, &[]) && verifies(&both, &old_leaf, &[]));
}

#[test]
fn an_end_in_seconds_is_cut_off_to_whole_ones_and_never_more_than_one_later_than_asked() {
    let mut cert_manager = cert_manager();
    for _ in 0..4 {
        let before = SystemTime::now();
        let validity = Validity { not_before: "-1h".to_owned(), not_after: "3s".to_owned() };
        cert_manager.renew(&Reissue { validity: Some(validity), ..reissue(CLIENT) }).expect("renewed");
        let after = SystemTime::now();
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(facts(&cert_manager, CLIENT).3).expect("positive"));
        assert!(not_after > before + Duration::from_secs(2) && not_after <= after + Duration::from_secs(3), "{not_after:?}");
        assert_eq!(cert_manager.end(CLIENT).expect("known"), not_after + Duration::from_secs(1));
        // Another part of the second.
        std::thread::sleep(Duration::from_millis(270));
    }
    assert!(cert_manager.end("nautobot-mtls-client@1").expect("known") > SystemTime::now() + Duration::from_secs(3600));
}

#[test]
fn a_patch_stays_and_one_that_can_not_be_issued_changes_nothing() {
    let mut cert_manager = cert_manager();
    cert_manager.renew(&patched(CLIENT, json!({"commonName": "other"}))).expect("renewed");
    cert_manager.rekey(&reissue(CLIENT)).expect("rekeyed");
    let subject = |cert_manager: &CertManager| {
        let pem = content(cert_manager, CLIENT, SecretFile::Certificate);
        let (_, pem) = parse_x509_pem(pem.as_bytes()).expect("PEM");
        pem.parse_x509().expect("a certificate").subject().to_string()
    };
    assert_eq!(subject(&cert_manager), "CN=other");
    let before = cert_manager.secret(CLIENT).expect("there").clone();
    let reverse = Validity { not_before: "1h".to_owned(), not_after: "-1h".to_owned() };
    for (bad, reason) in [
        (patched(CLIENT, json!({"nonsense": 1})), "nonsense"),
        (patched(CLIENT, json!({"privateKey": {"algorithm": "RSA", "size": 2048}})), "`rekey`"),
        (patched(CLIENT, json!({"secretName": "elsewhere"})), "secretName"),
        (patched(CLIENT, json!({"issuerRef": {"name": "nobody"}})), "known are mtls-selfsigned, mtls-ca-issuer"),
        (Reissue { validity: Some(reverse), ..patched(CLIENT, json!({"commonName": "third"})) }, "must be earlier"),
    ] {
        let error = cert_manager.renew(&bad).expect_err(reason).to_string();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(cert_manager.secret(CLIENT).expect("there"), &before);
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    assert_eq!(subject(&cert_manager), "CN=other", "a patch that failed does not stay");
    cert_manager.rekey(&patched(CLIENT, json!({"privateKey": {"algorithm": "RSA", "size": 2048}}))).expect("a new key may be another");
    assert!(content(&cert_manager, CLIENT, SecretFile::Key).contains("RSA PRIVATE KEY"));
}

#[test]
fn a_deleted_secret_comes_back_with_a_new_key_and_without_labels_of_other_hands() {
    let mut cert_manager = cert_manager();
    let (before, version) = (facts(&cert_manager, CLIENT), cert_manager.secret(CLIENT).expect("there").version());
    cert_manager.label(&label(CLIENT, Some(""))).expect("labelled");
    cert_manager.rekey(&reissue(CA)).expect("rekeyed");
    cert_manager.delete_secret(CLIENT).expect("issued again");
    assert_ne!(facts(&cert_manager, CLIENT).1, before.1);
    assert_eq!(content(&cert_manager, CLIENT, SecretFile::Ca), content(&cert_manager, CA_SECRET, SecretFile::Ca), "ca.crt is fresh");
    let secret = cert_manager.secret(CLIENT).expect("there");
    assert!(secret.labels().is_empty() && secret.version() > version);
}

#[test]
fn labels_of_other_hands_stay_at_renewal_and_those_of_the_template_follow_it() {
    let mut cert_manager = cert_manager();
    let labelled =
        |cert_manager: &CertManager, secret: &str| cert_manager.secret(secret).expect(secret).labels().contains_key("cnpg.io/reload");
    cert_manager.label(&label(CLIENT, Some("true"))).expect("labelled");
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    assert!(labelled(&cert_manager, CLIENT));
    cert_manager.label(&label(SERVER, None)).expect("dropped");
    assert!(!labelled(&cert_manager, SERVER));
    cert_manager.renew(&reissue(SERVER)).expect("renewed");
    assert!(labelled(&cert_manager, SERVER), "cert-manager writes its template again");
    cert_manager.renew(&patched(SERVER, json!({"secretTemplate": null}))).expect("renewed");
    assert!(!labelled(&cert_manager, SERVER), "no longer in the template");
}

#[test]
fn what_is_written_by_hand_stays_until_the_next_issue() {
    let mut cert_manager = cert_manager();
    let write = |cert_manager: &mut CertManager, key, with| cert_manager.overwrite(&overwrite(SERVER, key, with)).expect("written");
    write(&mut cert_manager, SecretFile::Key, Content::Secret(CLIENT.to_owned()));
    assert_eq!(content(&cert_manager, SERVER, SecretFile::Key), content(&cert_manager, CLIENT, SecretFile::Key));
    write(&mut cert_manager, SecretFile::Certificate, Content::Garbage);
    assert!(!content(&cert_manager, SERVER, SecretFile::Certificate).contains("BEGIN"));
    write(&mut cert_manager, SecretFile::Ca, Content::Removed);
    assert_eq!(cert_manager.secret(SERVER).expect("there").content(SecretFile::Ca), None);
    let error = cert_manager.overwrite(&overwrite(CLIENT, SecretFile::Ca, Content::Secret(SERVER.to_owned()))).expect_err("it has none");
    assert!(error.to_string().contains("it has no ca.crt now"), "{error}");
    cert_manager.renew(&reissue(SERVER)).expect("renewed");
    let root = content(&cert_manager, SERVER, SecretFile::Ca);
    assert!(verifies(&root, &content(&cert_manager, SERVER, SecretFile::Certificate), &[]));
    assert_ne!(content(&cert_manager, SERVER, SecretFile::Key), content(&cert_manager, CLIENT, SecretFile::Key));
}

#[test]
fn a_ca_whose_secret_was_overwritten_signs_nothing_until_it_is_issued_again() {
    let mut cert_manager = cert_manager();
    cert_manager.overwrite(&overwrite(CA_SECRET, SecretFile::Key, Content::Garbage)).expect("written");
    let error = cert_manager.renew(&reissue(CLIENT)).expect_err("its issuer is broken").to_string();
    assert!(error.contains("`mtls-ca-key-pair` of its issuer was overwritten"), "{error}");
    cert_manager.renew(&reissue(CA)).expect("it signs itself");
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
}

#[test]
fn a_revocation_list_is_signed_with_the_key_of_the_certificate_that_is_named() {
    let mut cert_manager = cert_manager();
    let usages = json!({"usages": ["digital signature", "key encipherment", "cert sign", "crl sign"]});
    cert_manager.renew(&patched(CA, usages)).expect("renewed");
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    cert_manager.renew(&reissue(SERVER)).expect("renewed");
    let validity = Validity { not_before: "-1h".to_owned(), not_after: "1h".to_owned() };
    let list = |issuer: &str, revoked: &[&str]| CrlOf {
        issuer: issuer.to_owned(),
        revoked: revoked.iter().map(|name| (*name).to_owned()).collect(),
        validity: validity.clone(),
    };
    let crl = cert_manager.crl(&list(CA, &[CLIENT])).expect("signed");
    let roots = content(&cert_manager, CA_SECRET, SecretFile::Ca) + &crl;
    let leaf = |secret: &str| content(&cert_manager, secret, SecretFile::Certificate);
    assert!(!verifies(&roots, &leaf(CLIENT), &["-crl_check"]) && verifies(&roots, &leaf(SERVER), &["-crl_check"]));
    let successor = cert_manager.crl(&list(CA, &["nautobot-mtls-client@1"])).expect("signed");
    let roots = content(&cert_manager, CA_SECRET, SecretFile::Ca) + &successor;
    assert!(verifies(&roots, &leaf(CLIENT), &["-crl_check"]), "its first certificate is on the list, not the present one");
    let error = cert_manager.crl(&list(CLIENT, &[])).expect_err("no CA").to_string();
    assert!(error.contains("is no CA"), "{error}");
}

#[test]
fn unknown_names_are_answered_with_the_known_ones() {
    let mut cert_manager = cert_manager();
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    for (error, known) in [
        (cert_manager.sha256("nobody").expect_err("unknown"), "known are mtls-ca, mtls-ca-cert"),
        (cert_manager.sha256("nautobot-mtls-client@3").expect_err("unknown"), "known are nautobot-mtls-client@1, nautobot-mtls-client@2"),
        (cert_manager.sha256("nautobot-mtls-client@0").expect_err("unknown"), "known are nautobot-mtls-client@1"),
        (cert_manager.sha256("nautobot-mtls-client@x").expect_err("unknown"), "known are nautobot-mtls-client@1"),
        (cert_manager.secret("nothing").map(drop).expect_err("unknown"), "known are mtls-ca-cert, mtls-ca-key-pair"),
        (cert_manager.label(&label("nothing", None)).expect_err("unknown"), "known are mtls-ca-cert"),
        (cert_manager.delete_secret("nothing").expect_err("unknown"), "known are mtls-ca-cert"),
    ] {
        assert!(error.to_string().contains(known), "{error}");
    }
    let empty = overwrite(COPY, SecretFile::Ca, Content::Certificates(Vec::new()));
    assert!(cert_manager.overwrite(&empty).expect_err("empty").to_string().contains("name at least one"));
}

#[test]
fn no_key_is_shown_by_debug() {
    let shown = format!("{:?}", cert_manager());
    assert!(shown.contains("nautobot-mtls-client") && !shown.contains("PRIVATE KEY-----"), "{shown}");
}

#[test]
fn labels_of_a_secret_in_the_manifests_stay_at_every_issue_and_go_with_it() {
    let mut texts: Vec<_> = ["10-certificate-authority", "20-server-certificates", "30-client-certificates"]
        .map(|file| repository().join(format!("kind/deployment/{file}.yaml")))
        .map(|file| (file.clone(), yaml::read(&file).expect("readable")))
        .into();
    let secret =
        |name: &str| format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, labels: {{cnpg.io/reload: \"true\"}}}}\n---\n");
    texts.push((PathBuf::from("by-hand.yaml"), secret(CLIENT) + &secret(SERVER)));
    let manifests = Manifests::from_texts(Path::new("test"), texts).expect("valid");
    let mut cert_manager = CertManager::new(&Arc::new(manifests)).expect("issued");
    let labelled = |cert_manager: &CertManager, secret: &str| !cert_manager.secret(secret).expect(secret).labels().is_empty();
    assert!(labelled(&cert_manager, CLIENT));
    cert_manager.renew(&reissue(CLIENT)).expect("renewed");
    assert!(labelled(&cert_manager, CLIENT));
    cert_manager.renew(&patched(SERVER, json!({"secretTemplate": null}))).expect("renewed");
    assert!(labelled(&cert_manager, SERVER), "the template's label was also of the Secret in the manifests");
    cert_manager.delete_secret(CLIENT).expect("issued again");
    assert!(!labelled(&cert_manager, CLIENT));
}
