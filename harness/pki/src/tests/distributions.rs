//! Site Secrets as scenarios name them.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const FILES: [SecretFile; 3] = [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca];

fn with(distribution: &str) -> (tempfile::TempDir, Pki) {
    let (directory, pki) = shipped();
    let mut credentials = credentials();
    let one = yaml::one(Path::new("c.yaml"), &format!("distributions:\n  tried: {distribution}\n")).expect("well-formed");
    let Credentials { distributions, .. } = one;
    credentials.distributions.extend(distributions);
    let pki = Pki::new(Arc::clone(pki.manifests()), credentials, directory.path().join("other"), FileUsers::default());
    (directory, pki)
}

#[test]
fn every_shipped_distribution_can_be_made_and_has_the_files_that_it_should() {
    let (_directory, pki) = shipped();
    for (name, distribution) in &credentials().distributions {
        let issued = pki.identity(name).expect(name);
        for file in FILES {
            let expected = distribution.fails.is_none() && distribution.template.get(&file) != Some(&None);
            assert_eq!(issued.path(file).exists(), expected, "{name} {file:?}");
            assert_eq!(issued.content(file).is_some(), expected, "{name} {file:?}");
        }
        assert_eq!(pki.trust(name).expect(name), issued.path(SecretFile::Ca));
    }
}

#[test]
fn the_documented_one_is_a_copy_of_its_source_in_another_place() {
    let (_directory, pki) = shipped();
    let (site, source) = (pki.identity("site").expect("site"), pki.identity("app-site").expect("app-site"));
    for file in FILES {
        assert_eq!(site.content(file), source.content(file), "{file:?}");
        assert_ne!(site.path(file), source.path(file));
        let mode = std::fs::metadata(site.path(file)).expect("it exists").permissions().mode() & 0o7777;
        assert_eq!(mode, 0o400, "{file:?}");
    }
    assert_eq!(site.sha256, source.sha256);
}

#[test]
fn a_secret_that_is_not_made_is_an_error_unless_its_failure_is_named() {
    let message = |distribution: &str| with(distribution).1.identity("tried").expect_err("refused").to_string();
    assert!(message("{identity: app-site, provider: cr}").contains("there is no Secret: the template of `ca.crt`: error filtering pem"));
    assert!(message("{identity: app-site, provider: cr, fails: Required value}").contains("but not for `Required value`"));
    assert!(message("{identity: app-site, fails: junk}").contains("the Secret was made"));
    assert!(message("{identity: key-missing}").contains("has no tls.key to push"));
    assert!(message("{identity: app-site, template: {tls.crt: '{{ .password }}'}}").contains("there is no field `password`"));
}

#[test]
fn keys_are_for_nobody_else_on_the_way_to_the_site() {
    let (_directory, pki) = shipped();
    let site = pki.identity("site").expect("site");
    let provider = site.path(SecretFile::Key).parent().and_then(Path::parent).expect("a folder").join("provider");
    assert_eq!(std::fs::metadata(provider).expect("it exists").permissions().mode() & 0o7777, 0o700);
}

#[test]
fn what_the_external_secret_takes_must_be_what_is_distributed() {
    let problems = |distribution: &str| {
        let (_directory, pki) = with(distribution);
        let problems = check(pki.manifests(), &pki.credentials);
        problems.into_iter().map(|problem| (problem.path.join("."), problem.message)).collect::<Vec<_>>()
    };
    assert!(problems("{identity: app-site-rsa}").is_empty());
    let found = problems("{identity: app}");
    let [(path, message)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(path, "distributions.tried.identity");
    assert!(
        message.contains("`app` is in the Secret `nautobot-mtls-client`")
            && message.contains("takes certificate and key from `nautobot-mtls-client-site-dc`"),
        "{message}"
    );
    assert!(message.ends_with("site/10-mtls-client.yaml:29:14)"), "{message}");
}
