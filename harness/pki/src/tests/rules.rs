//! One row for each rule of what a Certificate's `spec` becomes.

use super::*;

/// What cert-manager writes for a `spec`.
struct Rule {
    name: &'static str,
    spec: &'static str,
    /// The label of `tls.key`.
    label: &'static str,
    /// What openssl calls the public key.
    algorithm: &'static str,
    /// The line after `X509v3 Key Usage: critical`.
    key_usage: Option<&'static str>,
    /// The line after `X509v3 Extended Key Usage:`.
    extended: Option<&'static str>,
    /// The line after `X509v3 Subject Alternative Name:`.
    names: Option<&'static str>,
    is_ca: bool,
}

const RULES: [Rule; 12] = [
    Rule {
        name: "the-defaults",
        spec: "commonName: app",
        label: "RSA PRIVATE KEY",
        algorithm: "Public-Key: (2048 bit)",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "ecdsa",
        spec: "commonName: app, privateKey: {algorithm: ECDSA}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "ecdsa-384",
        spec: "commonName: app, privateKey: {algorithm: ECDSA, size: 384}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: secp384r1",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "ecdsa-521",
        spec: "commonName: app, privateKey: {algorithm: ECDSA, size: 521}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: secp521r1",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "ecdsa-pkcs8",
        spec: "commonName: app, privateKey: {algorithm: ECDSA, encoding: PKCS8}",
        label: "PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "rsa-pkcs8",
        spec: "commonName: app, privateKey: {encoding: PKCS8, size: 3072}",
        label: "PRIVATE KEY",
        algorithm: "Public-Key: (3072 bit)",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "ed25519",
        spec: "commonName: app, privateKey: {algorithm: Ed25519}",
        label: "PRIVATE KEY",
        algorithm: "ED25519 Public-Key",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: None,
        is_ca: false,
    },
    Rule {
        name: "client-auth-alone",
        spec: "commonName: app, usages: [client auth], privateKey: {algorithm: ECDSA}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: None,
        extended: Some("TLS Web Client Authentication"),
        names: None,
        is_ca: false,
    },
    Rule {
        name: "key-and-extended-usages",
        spec: "commonName: app, usages: [signing, server auth, any], privateKey: {algorithm: ECDSA}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: Some("Digital Signature"),
        extended: Some("TLS Web Server Authentication, Any Extended Key Usage"),
        names: None,
        is_ca: false,
    },
    Rule {
        name: "names",
        spec: "commonName: a, dnsNames: [b, c.example.com], ipAddresses: [10.0.0.1], uris: ['spiffe://x/y'], emailAddresses: [e@f], privateKey: {algorithm: ECDSA}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: Some("Digital Signature, Key Encipherment"),
        extended: None,
        names: Some("DNS:b, DNS:c.example.com, email:e@f, IP Address:10.0.0.1, URI:spiffe://x/y"),
        is_ca: false,
    },
    Rule {
        name: "a-ca",
        spec: "commonName: ca, isCA: true, privateKey: {algorithm: ECDSA}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: Some("Digital Signature, Key Encipherment, Certificate Sign"),
        extended: None,
        names: None,
        is_ca: true,
    },
    Rule {
        name: "a-ca-with-usages",
        spec: "commonName: ca, isCA: true, usages: [client auth], privateKey: {algorithm: ECDSA}",
        label: "EC PRIVATE KEY",
        algorithm: "ASN1 OID: prime256v1",
        key_usage: Some("Certificate Sign"),
        extended: Some("TLS Web Client Authentication"),
        names: None,
        is_ca: true,
    },
];

#[test]
fn every_rule_of_cert_manager_holds_as_openssl_reads_it() {
    let specs: Vec<_> = RULES.iter().map(|rule| (rule.name, rule.spec)).collect();
    let (_directory, pki) = with_certificates(&specs);
    for rule in &RULES {
        let identity = pki.secret(rule.name).expect(rule.name);
        let text = text(&identity);
        let context = format!("{}:\n{text}", rule.name);
        assert!(text.contains("Version: 3 (0x2)"), "{context}");
        assert!(text.contains(rule.algorithm), "{context}");
        assert_eq!(below(&text, "X509v3 Key Usage: critical"), rule.key_usage, "{context}");
        assert_eq!(below(&text, "X509v3 Extended Key Usage:"), rule.extended, "{context}");
        assert_eq!(below(&text, "X509v3 Subject Alternative Name:"), rule.names, "{context}");
        assert_eq!(below(&text, "X509v3 Basic Constraints: critical"), Some(if rule.is_ca { "CA:TRUE" } else { "CA:FALSE" }), "{context}");
        // Go writes a subject key identifier for CAs only, and an authority key identifier for whatever a CA signs.
        assert_eq!(text.contains("X509v3 Subject Key Identifier"), rule.is_ca, "{context}");
        assert!(text.contains("X509v3 Authority Key Identifier"), "{context}");
        let key = identity.content(SecretFile::Key).expect("a key");
        assert!(key.starts_with(&format!("-----BEGIN {}-----\n", rule.label)), "{}", rule.name);
        assert!(key.ends_with(&format!("-----END {}-----\n", rule.label)), "{}", rule.name);
        let public = openssl(&["pkey", "-pubout", "-in", &path(&identity, SecretFile::Key)]);
        assert_eq!(openssl(&["x509", "-noout", "-pubkey", "-in", &path(&identity, SecretFile::Certificate)]), public, "{}", rule.name);
        openssl(&["verify", "-CAfile", &path(&identity, SecretFile::Ca), &path(&identity, SecretFile::Certificate)]);
    }
}
