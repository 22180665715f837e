//! Subjects, chains and Secrets.

use x509_parser::prelude::*;

use super::*;

#[test]
fn the_certificate_parses_to_the_same_as_the_identity_says() {
    let (_directory, pki) = shipped();
    let app = pki.identity("app").expect("app");
    let (_, certificate) = X509Certificate::from_der(&app.der).expect("DER");
    assert_eq!(certificate.subject().to_string(), "CN=app");
    assert_eq!(certificate.issuer().to_string(), "CN=understack-mtls-ca");
    assert_eq!(certificate.raw_serial().iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte)).to_string(), app.serial);
    assert_eq!(app.common_name.as_deref(), Some("app"));
    assert!(certificate.key_usage().expect("parsed").is_none());
    let extended = certificate.extended_key_usage().expect("parsed").expect("an extended key usage");
    assert!(extended.value.client_auth && !extended.value.server_auth && !extended.critical);
    let constraints = certificate.basic_constraints().expect("parsed").expect("always there");
    assert!(constraints.critical && !constraints.value.ca);
    assert!(certificate.subject_alternative_name().expect("parsed").is_none());
    let lifetime = certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp();
    assert_eq!(lifetime, 26_280 * 3600);
    let fingerprint = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", &path(&app, SecretFile::Certificate)]);
    assert_eq!(fingerprint.trim().rsplit('=').next().map(|hex| hex.replace(':', "").to_lowercase()), Some(app.sha256.clone()));
}

#[test]
fn a_certificate_without_a_duration_lives_ninety_days() {
    let (_directory, pki) = with_certificates(&[("short", "commonName: a")]);
    let identity = pki.secret("short").expect("issued");
    let (_, certificate) = X509Certificate::from_der(&identity.der).expect("DER");
    assert_eq!(certificate.validity().not_after.timestamp() - certificate.validity().not_before.timestamp(), 90 * 24 * 3600);
}

#[test]
fn subject_attributes_stand_in_the_order_of_go() {
    let (_directory, pki) = with_certificates(&[(
        "subject",
        "commonName: nautobot-cluster, subject: {organizationalUnits: [nautobot], countries: [US], serialNumber: '7'}",
    )]);
    let identity = pki.secret("subject").expect("issued");
    let subject = openssl(&["x509", "-noout", "-subject", "-in", &path(&identity, SecretFile::Certificate)]);
    assert_eq!(subject.trim(), "subject=C = US, OU = nautobot, CN = nautobot-cluster, serialNumber = 7");
}

#[test]
fn a_ca_secret_has_its_own_certificate_as_ca_crt_and_no_authority_key_identifier() {
    let (_directory, pki) = shipped();
    let root = pki.secret("mtls-ca-key-pair").expect("the root");
    assert_eq!(root.content(SecretFile::Certificate), root.content(SecretFile::Ca));
    let text = text(&root);
    assert!(text.contains("X509v3 Subject Key Identifier") && !text.contains("X509v3 Authority Key Identifier"), "{text}");
    assert_eq!(below(&text, "X509v3 Key Usage: critical"), Some("Digital Signature, Key Encipherment, Certificate Sign"));
}

#[test]
fn a_leaf_secret_leaves_the_root_out_of_tls_crt_and_has_it_as_ca_crt() {
    let (_directory, pki) = shipped();
    let root = pki.secret("mtls-ca-key-pair").expect("the root");
    for secret in ["mtls-ca-cert", "nautobot-mtls-client", "nautobot-cluster-server-tls"] {
        let leaf = pki.secret(secret).expect(secret);
        assert_eq!(count(leaf.content(SecretFile::Certificate).expect("a certificate")), 1, "{secret}");
        assert_eq!(leaf.content(SecretFile::Ca), root.content(SecretFile::Certificate), "{secret}");
        assert_ne!(leaf.content(SecretFile::Certificate), leaf.content(SecretFile::Ca), "{secret}");
    }
}

#[test]
fn an_intermediate_is_sent_or_left_out_and_the_root_is_ca_crt() {
    let (_directory, pki) = shipped();
    let root = pki.secret("mtls-ca-key-pair").expect("the root");
    let sent = pki.identity("intermediate").expect("intermediate");
    let missing = pki.identity("intermediate-missing").expect("intermediate-missing");
    assert_eq!(count(sent.content(SecretFile::Certificate).expect("a certificate")), 2);
    assert_eq!(count(missing.content(SecretFile::Certificate).expect("a certificate")), 1);
    assert_eq!(sent.content(SecretFile::Ca), root.content(SecretFile::Certificate));
    let (ca, chain) = (path(&sent, SecretFile::Ca), path(&sent, SecretFile::Certificate));
    openssl(&["verify", "-CAfile", &ca, "-untrusted", &chain, &chain]);
    let alone =
        Command::new("openssl").args(["verify", "-CAfile", &ca, &path(&missing, SecretFile::Certificate)]).output().expect("openssl runs");
    assert!(!alone.status.success(), "without the intermediate it must not verify");
}

#[test]
fn the_rekeyed_ca_has_the_subject_of_the_real_one_and_another_key() {
    let (_directory, pki) = shipped();
    let app = pki.identity("app").expect("app");
    let rekeyed = pki.identity("rekeyed-ca").expect("rekeyed-ca");
    let old = pki.trust("mtls-ca").expect("the root");
    let new = pki.trust("rekeyed-ca").expect("the new root");
    let subject = |file: &Path| openssl(&["x509", "-noout", "-subject", "-in", &file.to_string_lossy()]);
    let key = |file: &Path| openssl(&["x509", "-noout", "-pubkey", "-in", &file.to_string_lossy()]);
    assert_eq!(subject(&old), subject(&new));
    assert_ne!(key(&old), key(&new));
    let verifies = |ca: &Path, identity: &IssuedIdentity| {
        let output = Command::new("openssl").args(["verify", "-CAfile"]).arg(ca).arg(identity.path(SecretFile::Certificate)).output();
        output.expect("openssl runs").status.success()
    };
    assert!(verifies(&old, &app) && verifies(&new, &rekeyed));
    assert!(!verifies(&old, &rekeyed) && !verifies(&new, &app));
    let both = pki.trust("rekeyed-bundle").expect("both roots");
    assert!(verifies(&both, &app) && verifies(&both, &rekeyed));
}
