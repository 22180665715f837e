//! Credentials checked against manifests without issuing anything.

use super::error::{InvalidCause, PkiError};
use super::template;
use super::variant::{self, ITSELF, Named};
use deployment::Manifests;
use deployment::certificate::IssuerKind;
use model::credential::{Credentials, Identity, Trust, Validity};

/// A credential that can't be made from these manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialProblem {
    /// The keys that lead to it below the `Credentials`, such as `identities`, `expired`, `certificate`.
    pub path: Vec<String>,
    /// What is wrong there, and what is allowed.
    pub message: String,
    /// The name of an object that the manifests lack, if that is it.
    pub lacks: Option<String>,
}

/// Everything in `credentials` that can't be made, in the order of sections and names. Nothing is issued.
#[must_use]
pub fn check(manifests: &Manifests, credentials: &Credentials) -> Vec<CredentialProblem> {
    let mut check = Check { manifests, credentials, problems: Vec::new() };
    check.authorities();
    check.identities();
    check.trusts();
    check.crls();
    check.distributions();
    check.problems
}

/// What is wrong with a file that is to belong to two users.
pub(super) const TWO_OWNERS: &str = "a file belongs to one user: to another one or to root";

/// The mode of a key file, from octal digits.
pub(super) fn key_mode(text: &str) -> Result<u32, InvalidCause> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| InvalidCause::KeyMode(text.to_owned()))
}

pub(super) struct Check<'a> {
    pub(super) manifests: &'a Manifests,
    pub(super) credentials: &'a Credentials,
    problems: Vec<CredentialProblem>,
}

impl<'a> Check<'a> {
    pub(super) fn add(&mut self, path: &[&str], message: impl Into<String>) {
        self.problem(path, message.into(), None);
    }

    fn problem(&mut self, path: &[&str], message: String, lacks: Option<String>) {
        self.problems.push(CredentialProblem { path: path.iter().map(|key| (*key).to_owned()).collect(), message, lacks });
    }

    pub(super) fn expect<T>(&mut self, path: &[&str], result: Result<T, PkiError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error,
        };
        let lacks = match &error {
            PkiError::Unknown { kind: "Certificate" | "Secret" | "authority or Issuer", name, known: _ } => Some(name.clone()),
            _ => None,
        };
        self.problem(path, error.to_string(), lacks);
        None
    }

    /// Names become file names, and `none` and `self` have meanings of their own.
    pub(super) fn name(&mut self, section: &str, name: &str) {
        let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
            self.add(&[section, name], format!("`{name}` is no name: letters, digits, `-`, `_` and `.` are allowed"));
        } else if ["none", ITSELF].contains(&name) {
            self.add(&[section, name], format!("the name `{name}` is taken: it has a meaning of its own where credentials are named"));
        }
    }

    fn validity(&mut self, path: &[&str], validity: Option<&Validity>) {
        if let Some(validity) = validity {
            let result = template::period(&shown(path), std::time::SystemTime::now(), validity);
            self.expect(&[path, &["validity"]].concat(), result);
        }
    }

    fn issuer(&mut self, path: &[&str], issuer: Option<&str>, key: &str) {
        if let Some(issuer) = issuer.filter(|issuer| *issuer != ITSELF) {
            let named = variant::named(self.manifests, self.credentials, issuer);
            self.expect(&[path, &[key]].concat(), named);
        }
    }

    fn authorities(&mut self) {
        for (name, authority) in &self.credentials.authorities {
            let path = ["authorities", name.as_str()];
            self.name("authorities", name);
            if self.manifests.issuer(name).is_some() {
                self.add(&path, format!("the manifests have an Issuer `{name}`: an authority needs a name of its own"));
            }
            self.expect(&path, variant::authority_spec(self.manifests, name, authority));
            self.validity(&path, authority.validity.as_ref());
            self.issuer(&path, authority.issuer.as_deref(), "issuer");
            self.expect(&path, variant::no_circle(self.credentials, name));
        }
    }

    fn identities(&mut self) {
        for (name, identity) in &self.credentials.identities {
            let path = ["identities", name.as_str()];
            self.name("identities", name);
            if self.manifests.certificate(&identity.certificate).is_none() {
                let result = variant::certificate(self.manifests, &identity.certificate);
                self.expect(&["identities", name, "certificate"], result);
            } else {
                self.expect(&path, variant::identity_spec(self.manifests, name, identity));
            }
            self.validity(&path, identity.validity.as_ref());
            self.issuer(&path, identity.issuer.as_deref(), "issuer");
            self.identity_files(name, identity);
        }
    }

    fn identity_files(&mut self, name: &str, identity: &Identity) {
        if let Some(other) = &identity.key_of
            && !self.credentials.identities.contains_key(other)
        {
            let error = unknown_identity(self.credentials, other);
            self.add(&["identities", name, "key_of"], error.to_string());
        }
        if let Some(mode) = &identity.key_mode
            && let Err(error) = key_mode(mode)
        {
            self.add(&["identities", name, "key_mode"], error.to_string());
        }
        if identity.key_owned_by_other && identity.key_owned_by_root {
            self.add(&["identities", name, "key_owned_by_root"], TWO_OWNERS);
        }
    }

    fn trusts(&mut self) {
        for (name, trust) in &self.credentials.trusts {
            let path = ["trusts", name.as_str()];
            self.name("trusts", name);
            match trust {
                Trust::Secret(secret) => {
                    if self.manifests.certificate_of_secret(secret).is_none() {
                        self.expect::<()>(&path, Err(unknown_secret(self.manifests, secret)));
                    }
                }
                Trust::Authorities(names) => {
                    for authority in names {
                        self.certificate_of(&path, authority);
                    }
                    if names.is_empty() {
                        self.add(&path, "`authorities` is empty: name at least one");
                    }
                }
                Trust::Missing | Trust::Garbage => {}
            }
        }
    }

    /// An authority that has a certificate: a self-signed Issuer has none.
    fn certificate_of(&mut self, path: &[&str], authority: &str) {
        match variant::named(self.manifests, self.credentials, authority) {
            Ok(Named::Issuer(issuer)) if issuer.kind == IssuerKind::SelfSigned => {
                self.add(path, format!("the Issuer `{authority}` is self-signed: it has no certificate of its own"));
            }
            other => drop(self.expect(path, other)),
        }
    }

    fn crls(&mut self) {
        for (name, crl) in &self.credentials.crls {
            let path = ["crls", name.as_str()];
            self.name("crls", name);
            self.certificate_of(&["crls", name, "issuer"], &crl.issuer);
            for revoked in &crl.revoked {
                if !self.credentials.identities.contains_key(revoked) {
                    let error = unknown_identity(self.credentials, revoked);
                    self.add(&["crls", name, "revoked"], error.to_string());
                }
            }
            self.validity(&path, Some(&crl.validity));
        }
    }
}

/// An identity that isn't there.
pub(super) fn unknown_identity(credentials: &Credentials, name: &str) -> PkiError {
    PkiError::unknown("identity", name, credentials.identities.keys().map(String::as_str))
}

/// A Secret that no Certificate writes.
pub(super) fn unknown_secret(manifests: &Manifests, name: &str) -> PkiError {
    PkiError::unknown("Secret", name, manifests.certificates.iter().map(|certificate| certificate.spec.secret_name.as_str()))
}

fn shown(path: &[&str]) -> String {
    path.join(".")
}
