//! What every installation of a run is made from.

use std::sync::Arc;

use crate::error::InstallError;
use deployment::Manifests;

/// What every installation of a run is made from.
#[derive(Debug, Clone)]
pub struct InstallationTemplate {
    /// The deployment, of which every installation issues its own Certificates.
    pub manifests: Arc<Manifests>,
    /// The Certificate whose Secret the global cluster's pods mount; `None`: the first of the manifests with the usage `client auth` and the
    /// application's user as its common name, as the rule `cert` wants it.
    pub client: Option<String>,
}

impl InstallationTemplate {
    /// The Certificate whose Secret the global cluster's pods mount.
    ///
    /// # Errors
    /// [`InstallError::NoClientCertificate`].
    pub(super) fn client_certificate(&self) -> Result<String, InstallError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let user = self.manifests.application().user;
        let certificate = self.manifests.client_certificate_of(&user).map(|certificate| certificate.name.clone());
        certificate.ok_or(InstallError::NoClientCertificate { user })
    }
}
