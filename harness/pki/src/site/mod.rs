//! The way of a client's certificate to a site: from the global cluster into a secrets provider, and by External Secrets from there into
//! the Secret that the site's workers mount.
//!
//! The provider and External Secrets are imitations; that of the template function [`filter_pem`] is held to the real one's output.

pub(super) mod filter_pem;
#[cfg(test)]
mod filter_pem_proptests;
pub mod properties;
mod provider;
mod refresher;

use std::collections::BTreeMap;
use std::fmt;

pub use super::error::SyncError;
pub use filter_pem::{FoundJunk, filter_pem};
pub use provider::Provider;
pub use refresher::Refresher;

use super::error::{InvalidCause, PkiError};
use deployment::external_secret::{Copied, ExternalSecret, FIELD};
use deployment::template::Expression;
use model::credential::SecretFile;

/// The way from the Secrets of the global cluster to that of one site.
#[derive(Debug)]
pub struct SiteDistribution {
    external_secret: ExternalSecret,
    provider: Provider,
}

/// What is copied into the provider.
#[derive(Clone, Copy)]
pub struct ProviderSecrets<'a> {
    /// `tls.crt` of the site's own Secret of the global cluster.
    pub certificate: &'a str,
    /// `tls.key` of the same.
    pub key: &'a str,
    /// `ca.crt` of the CA's Secret.
    pub ca: &'a str,
}

/// The Secret that a site's workers mount, as External Secrets made it.
#[derive(Clone, PartialEq, Eq)]
pub struct SiteSecret {
    data: BTreeMap<String, String>,
}

impl SiteDistribution {
    /// By this ExternalSecret, from this provider.
    #[must_use]
    pub fn new(external_secret: ExternalSecret, provider: Provider) -> Self {
        Self { external_secret, provider }
    }

    /// The ExternalSecret that says what is taken from where.
    #[must_use]
    pub fn external_secret(&self) -> &ExternalSecret {
        &self.external_secret
    }

    /// Copies certificate and key into the site's credential, and the CA into the one that all sites share.
    ///
    /// # Errors
    /// [`PkiError::Write`] if the provider can't be written; [`PkiError::Invalid`] if the ExternalSecret takes one of the two from nowhere.
    pub fn push(&self, secrets: ProviderSecrets<'_>) -> Result<(), PkiError> {
        let both = format!("{}{}", secrets.certificate, secrets.key);
        for (copied, text) in [(Copied::CertificateAndKey, both.as_str()), (Copied::Ca, secrets.ca)] {
            let what = format!("ExternalSecret `{}`", self.external_secret.name);
            let source = self.external_secret.source(copied).ok_or_else(|| PkiError::invalid(what, InvalidCause::NoSource))?;
            self.provider.put(&source.key, FIELD, text)?;
        }
        Ok(())
    }

    /// Makes the Secret from what the provider has now.
    ///
    /// # Errors
    /// [`SyncError`].
    pub fn sync(&self) -> Result<SiteSecret, SyncError> {
        let mut fields = BTreeMap::new();
        for source in &self.external_secret.sources {
            let text = self.provider.text(&source.key, FIELD).map_err(|error| SyncError::Provider(Box::new(error)))?;
            fields.insert(source.field.as_str(), text.ok_or_else(|| SyncError::NoCredential(source.key.clone()))?);
        }
        let mut data = BTreeMap::new();
        for (key, expression) in &self.external_secret.template {
            data.insert(key.clone(), rendered(key, expression, &fields)?);
        }
        for needed in [SecretFile::Certificate, SecretFile::Key] {
            if !data.contains_key(needed.file_name()) {
                return Err(SyncError::Required { secret: self.external_secret.secret.clone(), key: needed.file_name() });
            }
        }
        Ok(SiteSecret { data })
    }
}

fn rendered(key: &str, expression: &Expression, fields: &BTreeMap<&str, String>) -> Result<String, SyncError> {
    let text =
        fields.get(expression.field.as_str()).ok_or_else(|| SyncError::NoField { key: key.to_owned(), field: expression.field.clone() })?;
    let text = match &expression.filter {
        Some(kind) => filter_pem(kind, text).map_err(|source| SyncError::Filter { key: key.to_owned(), source })?,
        None => text.clone(),
    };
    Ok(text + &expression.tail)
}

impl SiteSecret {
    /// The files that are there where the Secret is mounted.
    #[must_use]
    pub fn files(&self) -> BTreeMap<SecretFile, String> {
        let files = [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca];
        files.into_iter().filter_map(|file| Some((file, self.content(file)?.to_owned()))).collect()
    }

    /// What a file holds where the Secret is mounted; `None` if the Secret lacks the key.
    #[must_use]
    pub fn content(&self, file: SecretFile) -> Option<&str> {
        self.data.get(file.file_name()).map(String::as_str)
    }
}

/// Leaves contents out: a private key is among them.
impl fmt::Debug for SiteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteSecret").field("keys", &self.data.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

/// Leaves contents out: a private key is among them.
impl fmt::Debug for ProviderSecrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSecrets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use deployment::Manifests;
    use model::credential::ProviderText;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nYXBw\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN EC PRIVATE KEY-----\na2V5\n-----END EC PRIVATE KEY-----\n";
    const CA: &str = "-----BEGIN CERTIFICATE-----\nY2E=\n-----END CERTIFICATE-----\n";
    const ALL: ProviderSecrets<'_> = ProviderSecrets { certificate: CERTIFICATE, key: KEY, ca: CA };

    /// The shipped ExternalSecret over an empty provider; the directory lives as long as the first value.
    pub(crate) fn shipped(text: ProviderText) -> (tempfile::TempDir, SiteDistribution) {
        let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kind/deployment");
        let external_secret = Manifests::load(&manifests).expect("valid").site.expect("an ExternalSecret");
        let directory = tempfile::tempdir().expect("a directory");
        let provider = Provider::new(directory.path().join("provider"), text);
        (directory, SiteDistribution::new(external_secret, provider))
    }

    fn files(secret: &SiteSecret) -> [Option<&str>; 3] {
        [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca].map(|file| secret.content(file))
    }

    #[test]
    fn what_was_pushed_is_taken_apart_again_also_with_crlf_line_ends() {
        for text in [ProviderText::Unchanged, ProviderText::Crlf] {
            let (_directory, site) = shipped(text);
            site.push(ALL).expect("pushed");
            assert_eq!(files(&site.sync().expect("a Secret")), [Some(CERTIFICATE), Some(KEY), Some(CA)], "{text:?}");
        }
    }

    #[test]
    fn every_other_change_of_the_text_leaves_no_secret() {
        use ProviderText::{BlocksJoined, BlocksJoinedBySpace, Cr, OneLine, WrittenOutCr};
        for text in [Cr, WrittenOutCr, OneLine, BlocksJoinedBySpace, BlocksJoined] {
            let (_directory, site) = shipped(text);
            site.push(ALL).expect("pushed");
            let message = site.sync().expect_err("no Secret").to_string();
            assert!(message.contains("error filtering pem: found junk"), "{text:?}: {message}");
        }
    }

    #[test]
    fn before_the_first_push_there_is_no_secret() {
        let (_directory, site) = shipped(ProviderText::Unchanged);
        assert!(matches!(site.sync(), Err(SyncError::NoCredential(name)) if name == "nautobot-mtls-client-site-dc"));
    }

    #[test]
    fn a_key_in_another_form_leaves_an_empty_file_and_no_error() {
        let (_directory, site) = shipped(ProviderText::Unchanged);
        let pkcs8 = KEY.replace("EC PRIVATE", "PRIVATE");
        site.push(ProviderSecrets { key: &pkcs8, ..ALL }).expect("pushed");
        assert_eq!(files(&site.sync().expect("a Secret")), [Some(CERTIFICATE), Some(""), Some(CA)]);
    }

    #[test]
    fn nothing_of_a_key_is_shown() {
        let (_directory, site) = shipped(ProviderText::Unchanged);
        site.push(ALL).expect("pushed");
        let shown = format!("{:?} {ALL:?} {site:?}", site.sync().expect("a Secret"));
        assert!(shown.contains("tls.key") && !shown.contains("a2V5"), "{shown}");
    }
}
