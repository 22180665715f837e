//! A site of the installation: its secrets provider, and the Secret that External Secrets makes from it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::state::State;
use crate::Applied;
use crate::error::ChangeError;
use deployment::Manifests;
use deployment::external_secret::Copied;
use model::credential::{ProviderText, SecretFile};
use pki::site::{Provider, ProviderSecrets, Refresher, SiteDistribution};

/// How often the site's Secret is refreshed, in place of the manifest's hour: long enough to be seen to be late.
const INTERVAL: Duration = Duration::from_millis(300);

/// A site. Dropping it ends its refreshes.
pub(super) struct Site {
    distribution: Arc<SiteDistribution>,
    refresher: Refresher,
}

impl Site {
    /// Below this directory: everything was pushed once and refreshed once.
    pub(super) fn make(manifests: &Manifests, state: &State, directory: &Path) -> Result<Self, ChangeError> {
        let external_secret = manifests.site.clone().ok_or(ChangeError::NoExternalSecret)?;
        let provider = Provider::new(directory.to_path_buf(), ProviderText::Unchanged);
        let distribution = Arc::new(SiteDistribution::new(external_secret, provider));
        push(&distribution, state)?;
        let refresher = Refresher::start(Arc::clone(&distribution), INTERVAL);
        Ok(Self { distribution, refresher })
    }

    /// Copies the site's certificate and key and the CA, as the global cluster's Secrets hold them now, into the provider.
    pub(super) fn push(&self, state: &State) -> Result<(), ChangeError> {
        push(&self.distribution, state)
    }

    /// Waits for the next refresh. One that fails leaves the Secret as it was: that is an observation.
    pub(super) async fn refresh(&self) -> Applied {
        Applied { objection: self.refresher.next().await.err().map(|error| error.to_string()) }
    }

    /// What the site's Secret holds now; nothing before it was made.
    pub(super) fn data(&self) -> BTreeMap<SecretFile, String> {
        self.refresher.secret().map(|secret| secret.files()).unwrap_or_default()
    }
}

fn push(distribution: &SiteDistribution, state: &State) -> Result<(), ChangeError> {
    let external_secret = distribution.external_secret();
    let secret = |copied: Copied| {
        let missing = || ChangeError::NoCredential(external_secret.name.clone());
        let source = external_secret.source(copied).ok_or_else(missing)?;
        Ok::<_, ChangeError>((&source.key, state.cert_manager.secret(&source.key)?))
    };
    let (own, ca) = (secret(Copied::CertificateAndKey)?, secret(Copied::Ca)?);
    // Whoever copies by hand copies what is there: a key that is gone from the Secret gives an empty text.
    let content = |(_, secret): &(&String, &'_ pki::Secret), file| secret.content(file).unwrap_or_default().to_owned();
    let (certificate, key) = (content(&own, SecretFile::Certificate), content(&own, SecretFile::Key));
    let ca = content(&ca, SecretFile::Ca);
    Ok(distribution.push(ProviderSecrets { certificate: &certificate, key: &key, ca: &ca })?)
}
