//! The shipped credentials, and what is refused.

use x509_parser::prelude::*;

use super::*;
use os::user::RunAs;

#[test]
fn revocation_lists_revoke_exactly_the_revoked() {
    let (_directory, pki) = shipped();
    let ca = pki.trust("crl-ca").expect("trust");
    let verify = |crl: &str, identity: &str| {
        let crl = pki.crl(crl).expect(crl);
        let certificate = pki.identity(identity).expect(identity).path(SecretFile::Certificate);
        let output =
            Command::new("openssl").args(["verify", "-crl_check", "-CAfile"]).arg(&ca).arg("-CRLfile").arg(crl).arg(certificate).output();
        let output = output.expect("openssl runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(verify("revoked", "not-revoked").0);
    assert!(verify("empty", "revoked").0);
    assert!(verify("revoked", "revoked").1.contains("certificate revoked"));
    assert!(verify("expired-crl", "not-revoked").1.contains("CRL has expired"));
}

#[test]
fn a_revocation_list_of_a_ca_with_default_usages_is_refused_by_openssl() {
    let (_directory, pki) = shipped();
    let crl = pki.crl("without-crl-sign").expect("made all the same");
    let app = pki.identity("app").expect("app");
    let output = Command::new("openssl")
        .args(["verify", "-crl_check", "-CAfile"])
        .arg(app.path(SecretFile::Ca))
        .arg("-CRLfile")
        .arg(crl)
        .arg(app.path(SecretFile::Certificate))
        .output()
        .expect("openssl runs");
    assert!(String::from_utf8_lossy(&output.stderr).contains("key usage does not include CRL signing"), "{output:?}");
}

#[test]
fn every_shipped_credential_can_be_made() {
    let (_directory, pki) = shipped();
    assert_eq!(pki.check(), Vec::new());
    let credentials = credentials();
    for (name, identity) in &credentials.identities {
        let issued = pki.identity(name).expect(name);
        for file in [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca] {
            assert_eq!(issued.path(file).exists(), !identity.missing.contains(&file), "{name} {file:?}");
            assert_eq!(issued.content(file).is_some(), !identity.missing.contains(&file), "{name} {file:?}");
        }
    }
    for name in credentials.trusts.keys() {
        assert_eq!(pki.trust(name).expect(name).exists(), name != "missing", "{name}");
    }
    for name in credentials.crls.keys() {
        assert!(pki.crl(name).expect(name).exists(), "{name}");
    }
}

#[test]
fn files_have_the_modes_that_their_variant_says() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_directory, pki) = shipped();
    let mode = |identity: &str, file| {
        let path = pki.identity(identity).expect(identity).path(file);
        std::fs::metadata(path).expect("it exists").permissions().mode() & 0o7777
    };
    assert_eq!(mode("app", SecretFile::Key), 0o600);
    assert_eq!(mode("app", SecretFile::Certificate), 0o644);
    assert_eq!(mode("key-mode-0644", SecretFile::Key), 0o644);
    assert_eq!(mode("key-mode-0640", SecretFile::Key), 0o640);
}

#[test]
fn a_key_is_given_away_where_the_variant_says_and_root_can() {
    use std::os::unix::fs::MetadataExt as _;
    let Some(other) = RunAs::unprivileged() else { return };
    let (_directory, pki) = shipped();
    let pki = Pki::new(
        Arc::clone(pki.manifests()),
        credentials(),
        pki.directory.clone(),
        FileUsers { other: Some(other.clone()), ..FileUsers::default() },
    );
    let owner = |identity: &str| std::fs::metadata(pki.identity(identity).expect(identity).path(SecretFile::Key)).expect("it exists").uid();
    assert_eq!(owner("key-mode-0640"), other.uid);
    assert_ne!(owner("key-mode-0644"), other.uid);
}

#[test]
fn every_file_is_its_clients_but_those_that_are_roots_or_anothers() {
    use std::os::unix::fs::MetadataExt as _;
    let (Some(client), Some(other)) = (RunAs::of_clients(), RunAs::unprivileged()) else { return };
    let (_directory, pki) = shipped();
    let pki = Pki::new(Arc::clone(pki.manifests()), credentials(), pki.directory.clone(), FileUsers::of_this_run());
    let owner = |identity: &str, file| {
        let status = std::fs::metadata(pki.identity(identity).expect(identity).path(file)).expect("it exists");
        (status.uid(), status.gid())
    };
    let (clients, others) = ((client.uid, client.gid), (other.uid, client.gid));
    for (identity, certificate, key) in [
        ("app", clients, clients),
        ("key-mode-0640", clients, others),
        ("site", clients, clients),
        ("site-mode-0440", others, others),
        ("site-mode-0440-of-root", (0, client.gid), (0, client.gid)),
    ] {
        assert_eq!((owner(identity, SecretFile::Certificate), owner(identity, SecretFile::Key)), (certificate, key), "{identity}");
        assert!(pki.identity(identity).expect(identity).has_owner, "{identity}");
    }
    let ours = Pki::new(Arc::clone(pki.manifests()), credentials(), pki.directory.join("ours"), FileUsers::default());
    let has_owner = |identity: &str| ours.identity(identity).expect(identity).has_owner;
    assert!(has_owner("app") && !has_owner("key-mode-0640") && !has_owner("site-mode-0440-of-root"));
}

#[test]
fn identities_that_differ_in_files_alone_share_the_certificate_and_others_have_their_own() {
    let (_directory, pki) = shipped();
    let sha256 = |name: &str| pki.identity(name).expect(name).sha256.clone();
    let secret = pki.secret("nautobot-mtls-client").expect("the Secret").sha256.clone();
    for same in ["app", "key-mode-0644", "key-of-another", "key-missing", "certificate-garbage"] {
        assert_eq!(sha256(same), secret, "{same}");
    }
    for other in ["app-site", "expired", "no-eku-no-ku", "revoked", "not-revoked", "self-signed"] {
        assert_ne!(sha256(other), secret, "{other}");
    }
    let key = |name: &str| pki.identity(name).expect(name).content(SecretFile::Key).map(str::to_owned);
    assert_eq!(key("key-of-another"), key("app-site"));
    assert_eq!(key("key-garbage").as_deref(), Some(identity::GARBAGE));
}

#[test]
fn usages_of_the_variants_are_what_their_names_say() {
    let (_directory, pki) = shipped();
    for (name, key_usage, extended) in [
        ("no-eku", Some("Digital Signature, Key Encipherment"), None),
        ("no-eku-no-ku", None, None),
        ("eku-server-auth-only", None, Some("TLS Web Server Authentication")),
        ("eku-any", None, Some("Any Extended Key Usage")),
        ("ku-without-digital-signature", Some("Key Encipherment"), Some("TLS Web Client Authentication")),
    ] {
        let text = text(&pki.identity(name).expect(name));
        assert_eq!(below(&text, "X509v3 Key Usage: critical"), key_usage, "{name}: {text}");
        assert_eq!(below(&text, "X509v3 Extended Key Usage:"), extended, "{name}: {text}");
    }
}

#[test]
fn subjects_and_validity_of_the_variants_are_what_their_names_say() {
    let (_directory, pki) = shipped();
    let parsed = |name: &str| {
        let der = pki.identity(name).expect(name).der.clone();
        let (_, certificate) = X509Certificate::from_der(&der).expect("DER");
        let names = certificate.subject_alternative_name().expect("parsed").map(|names| (names.critical, names.value.general_names.len()));
        (certificate.subject().to_string(), certificate.validity().is_valid(), names)
    };
    assert_eq!(parsed("wrong-cn"), ("CN=other".to_owned(), true, None));
    // Critical, since the subject is empty (RFC 5280, 4.1.2.6).
    assert_eq!(parsed("no-cn"), (String::new(), true, Some((true, 1))));
    assert_eq!(parsed("expired"), ("CN=app".to_owned(), false, None));
    assert_eq!(parsed("not-yet-valid"), ("CN=app".to_owned(), false, None));
    assert_eq!(parsed("server"), ("CN=nautobot-cluster-rw.nautobot.svc".to_owned(), true, Some((false, 5))));
    assert_eq!(parsed("server-cn-only"), ("CN=nautobot-cluster-rw.nautobot.svc".to_owned(), true, None));
    assert_eq!(parsed("server-wrong-san"), ("CN=other.example.com".to_owned(), true, Some((false, 1))));
}

#[test]
fn threads_that_ask_at_once_get_the_same_certificate() {
    let (_directory, pki) = shipped();
    let seen: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| pki.identity("app-rsa").expect("issued").sha256.clone())).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(seen.iter().all(|sha256| *sha256 == seen[0]));
}

#[test]
fn unknown_names_are_refused_with_the_known_ones() {
    let (_directory, pki) = shipped();
    let message = pki.identity("ap").expect_err("unknown").to_string();
    assert!(message.starts_with("there is no identity `ap`: known are app, app-pkcs8, "), "{message}");
    assert_eq!(
        pki.crl("x").expect_err("unknown").to_string(),
        "there is no CRL `x`: known are empty, expired-crl, revoked, without-crl-sign"
    );
    assert!(pki.secret("x").expect_err("unknown").to_string().contains("mtls-ca-key-pair"));
    assert!(pki.trust("x").expect_err("unknown").to_string().contains("rekeyed-bundle"));
}

#[test]
fn debug_output_has_no_key() {
    let (_directory, pki) = shipped();
    let app = pki.identity("app").expect("app");
    let key = app.content(SecretFile::Key).expect("a key").lines().nth(1).expect("a line").to_owned();
    assert!(!format!("{app:?} {pki:?}").contains(&key));
    // With its dashes: the templates of an ExternalSecret name the type of a key, too.
    assert!(!format!("{app:?} {pki:?}").contains("PRIVATE KEY-----"));
}

#[test]
fn credentials_that_cannot_be_made_are_named_with_what_is_allowed() {
    let text = "
authorities:
  mtls-ca-issuer: {like: mtls-ca}
  leaf: {like: nautobot-mtls-client}
  one: {like: mtls-ca, issuer: two}
  two: {like: mtls-ca, issuer: one}
identities:
  self: {certificate: nautobot-mtls-client}
  typo: {certificate: nautobot-mtls-clint}
  patch: {certificate: nautobot-mtls-client, patch: {comonName: x}}
  period: {certificate: nautobot-mtls-client, validity: {not_before: 1h, not_after: -1h}}
  days: {certificate: nautobot-mtls-client, validity: {not_before: -1d, not_after: 1h}}
  issuer: {certificate: nautobot-mtls-client, issuer: nobody}
  key: {certificate: nautobot-mtls-client, key_of: nobody, key_mode: rw}
trusts:
  secret: {secret: nothing}
  selfsigned: {authorities: [mtls-selfsigned]}
crls:
  list: {issuer: nobody, revoked: [nobody], validity: {not_before: -1h, not_after: 1h}}
";
    let credentials: Credentials = yaml::one(Path::new("c.yaml"), text).expect("well-formed");
    let (_directory, pki) = shipped();
    let problems = check(pki.manifests(), &credentials);
    let shown: Vec<_> = problems.iter().map(|problem| format!("{}: {}", problem.path.join("."), problem.message)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}
