//! Certificates read back with `openssl` and x509-parser.

mod distributions;
mod issued;
mod over_time;
mod rules;
mod variants;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::*;
use load::yaml;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn credentials() -> Credentials {
    let file = repository().join("scenarios/credentials.yaml");
    yaml::one(&file, &yaml::read(&file).expect("readable")).expect("valid")
}

/// A Pki over the shipped manifests and credentials; the directory lives as long as the first value.
fn shipped() -> (tempfile::TempDir, Pki) {
    let directory = tempfile::tempdir().expect("a directory");
    let manifests = Manifests::load(&repository().join("kind/deployment")).expect("the shipped manifests are valid");
    let pki = Pki::new(Arc::new(manifests), credentials(), directory.path().join("pki"), FileUsers::default());
    (directory, pki)
}

/// A Pki over Certificates given as their `spec` lines, signed by a self-signed root `root` through the Issuer `issuer`.
fn with_certificates(certificates: &[(&str, &str)]) -> (tempfile::TempDir, Pki) {
    let mut text = String::from(
        "apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: selfsigned}\nspec: {selfSigned: {}}\n---\n\
         apiVersion: cert-manager.io/v1\nkind: Issuer\nmetadata: {name: issuer}\nspec: {ca: {secretName: root}}\n---\n\
         apiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {name: root}\nspec: {isCA: true, commonName: root, secretName: root, issuerRef: {name: selfsigned}}\n",
    );
    for (name, spec) in certificates {
        let issuer = if spec.contains("issuerRef") { "" } else { ", issuerRef: {name: issuer}" };
        text.push_str(&format!("---\napiVersion: cert-manager.io/v1\nkind: Certificate\nmetadata: {{name: {name}}}\nspec: {{secretName: {name}, {spec}{issuer}}}\n"));
    }
    let manifests = Manifests::from_texts(Path::new("test"), vec![(PathBuf::from("test.yaml"), text)]).expect("valid manifests");
    let directory = tempfile::tempdir().expect("a directory");
    let pki = Pki::new(Arc::new(manifests), Credentials::default(), directory.path().join("pki"), FileUsers::default());
    (directory, pki)
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "openssl {args:?}: {}{text}", String::from_utf8_lossy(&output.stderr));
    text
}

fn path(identity: &IssuedIdentity, file: SecretFile) -> String {
    identity.path(file).to_string_lossy().into_owned()
}

fn text(identity: &IssuedIdentity) -> String {
    openssl(&["x509", "-noout", "-text", "-in", &path(identity, SecretFile::Certificate)])
}

fn count(pem: &str) -> usize {
    pem.matches("-----BEGIN CERTIFICATE-----").count()
}

/// The line below a heading of `openssl x509 -text`.
fn below<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| line.starts_with(heading))?;
    lines.next()
}
