//! The site Secrets that scenarios name: pushed, made by External Secrets' rules, mounted.

use std::collections::BTreeMap;

use super::error::{InvalidCause, PkiError};
use super::identity::{self, IssuedIdentity};
use super::site::{Provider, ProviderSecrets, SiteDistribution};
use super::{Pki, check};
use deployment::Manifests;
use deployment::external_secret::{Copied, ExternalSecret};
use deployment::template::TemplateError;
use model::credential::{Distribution, SecretFile};

/// `defaultMode` of the documented volume: octal 0400.
const DEFAULT_MODE: u32 = 256;

/// The ExternalSecret of the manifests with a distribution's own templates.
pub(super) fn external_secret(manifests: &Manifests, name: &str, distribution: &Distribution) -> Result<ExternalSecret, PkiError> {
    let what = format!("distribution `{name}`");
    let mut external_secret = manifests.site.clone().ok_or_else(|| PkiError::invalid(&what, InvalidCause::NoExternalSecret))?;
    for (file, text) in &distribution.template {
        let key = file.file_name();
        match text {
            Some(text) => {
                let expression =
                    text.parse().map_err(|source: TemplateError| PkiError::invalid(&what, InvalidCause::Template { key, source }))?;
                external_secret.template.insert(key.to_owned(), expression);
            }
            None => drop(external_secret.template.remove(key)),
        }
    }
    Ok(external_secret)
}

impl Pki {
    /// The files that a site's pods mount.
    pub(super) fn distribute(&self, name: &str, distribution: &Distribution) -> Result<IssuedIdentity, PkiError> {
        let what = format!("distribution `{name}`");
        let external_secret = external_secret(&self.manifests, name, distribution)?;
        let ca_secret = external_secret.source(Copied::Ca).map(|source| source.key.clone());
        let directory = self.directory.join("sites").join(name);
        identity::make_directory(&directory)?;
        let site = SiteDistribution::new(external_secret, Provider::new(directory.join("provider"), distribution.provider));
        let client = self.identity(&distribution.identity)?;
        let content = |issued: &IssuedIdentity, file: SecretFile| {
            let missing = || PkiError::invalid(&what, InvalidCause::NothingToPush { identity: issued.name.clone(), file });
            issued.content(file).map(str::to_owned).ok_or_else(missing)
        };
        let ca = match (&distribution.certificate_as_ca, ca_secret) {
            (Some(other), _) => content(&*self.identity(other)?, SecretFile::Certificate)?,
            (None, Some(secret)) => content(&*self.secret(&secret)?, SecretFile::Ca)?,
            (None, None) => return Err(PkiError::invalid(&what, InvalidCause::NoCaSource)),
        };
        let (certificate, key) = (content(&client, SecretFile::Certificate)?, content(&client, SecretFile::Key)?);
        site.push(ProviderSecrets { certificate: &certificate, key: &key, ca: &ca })?;
        let contents = match (site.sync(), &distribution.fails) {
            (Ok(secret), None) => secret.files(),
            (Err(error), Some(words)) if error.to_string().contains(words) => BTreeMap::new(),
            (Ok(_), Some(words)) => {
                return Err(PkiError::invalid(&what, InvalidCause::SecretMade(words.clone())));
            }
            (Err(error), None) => return Err(PkiError::invalid(&what, InvalidCause::NoSecret(error))),
            (Err(error), Some(words)) => {
                return Err(PkiError::invalid(&what, InvalidCause::OtherSyncError { words: words.clone(), source: error }));
            }
        };
        let mode = distribution.default_mode.unwrap_or(DEFAULT_MODE);
        let certified_key = self.identity_key(&distribution.identity)?;
        identity::mount(name, &certified_key, contents, mode, (distribution.owner(), &self.users), directory.join("mtls"))
    }
}

impl check::Check<'_> {
    /// What is distributed must be what the ExternalSecret takes: a credential has the name of the Secret that was copied there.
    fn source(&mut self, name: &str, distribution: &Distribution, external_secret: &ExternalSecret) {
        let certificate = self.credentials.identities.get(&distribution.identity).map(|identity| identity.certificate.as_str());
        let certificate = certificate.and_then(|certificate| self.manifests.certificate(certificate));
        let (Some(certificate), Some(source)) = (certificate, external_secret.source(Copied::CertificateAndKey)) else { return };
        let secret = &certificate.spec.secret_name;
        if source.key != *secret {
            let cause = InvalidCause::OtherSource {
                identity: distribution.identity.clone(),
                secret: secret.clone(),
                key: source.key.clone(),
                place: source.place.clone(),
            };
            self.add(&["distributions", name, "identity"], PkiError::invalid(format!("distribution `{name}`"), cause).to_string());
        }
    }

    /// Distributions: names, templates, modes.
    pub(super) fn distributions(&mut self) {
        for (name, distribution) in &self.credentials.distributions {
            let path = ["distributions", name.as_str()];
            self.name("distributions", name);
            for (section, there) in
                [("an identity", self.credentials.identities.contains_key(name)), ("a trust", self.credentials.trusts.contains_key(name))]
            {
                if there {
                    self.add(&path, format!("there is {section} `{name}` already: a distribution is an identity and a trust by its name"));
                }
            }
            for (field, identity) in
                [("identity", Some(&distribution.identity)), ("certificate_as_ca", distribution.certificate_as_ca.as_ref())]
            {
                if let Some(identity) = identity.filter(|identity| !self.credentials.identities.contains_key(*identity)) {
                    let error = check::unknown_identity(self.credentials, identity);
                    self.add(&["distributions", name, field], error.to_string());
                }
            }
            if distribution.owned_by_other && distribution.owned_by_root {
                self.add(&["distributions", name, "owned_by_root"], check::TWO_OWNERS);
            }
            // In a volume a mode has no bits beyond these (Kubernetes: 0 to 0777).
            if let Some(mode) = distribution.default_mode.filter(|mode| *mode > 0o777) {
                self.add(
                    &["distributions", name, "default_mode"],
                    format!("{mode} is no mode: 0 to 511 (octal 0777) is allowed, in decimal"),
                );
            }
            if let Some(external_secret) = self.expect(&path, external_secret(self.manifests, name, distribution)) {
                self.source(name, distribution, &external_secret);
            }
        }
    }
}
