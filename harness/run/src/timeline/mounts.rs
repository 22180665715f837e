//! The files of a timeline's clients: the Secrets that they mount.

use std::path::PathBuf;
use std::sync::Arc;

use super::super::credentials::{CredentialError, CredentialSource};
use environment::Installation;
use model::change::Target;
use model::connect::ClientFiles;
use model::server::{Application, Service};

/// [`CredentialSource`] of an installation: identities and trusts are mounts.
pub(super) struct Mounts {
    pub(super) installation: Arc<dyn Installation>,
    /// Names that don't change.
    pub(super) deployment: Arc<dyn CredentialSource>,
}

impl Mounts {
    fn mount(&self, name: &str) -> Result<ClientFiles, CredentialError> {
        let target = match name {
            "client" => Target::Client,
            "site" => Target::Site,
            _ => return Err(CredentialError::UnknownMount(name.to_owned())),
        };
        self.installation.mount(target).ok_or(CredentialError::NoMount(target))
    }
}

impl CredentialSource for Mounts {
    fn client_files(&self, identity: Option<&str>, trust: Option<&str>) -> Result<ClientFiles, CredentialError> {
        let identity = identity.map(|name| self.mount(name)).transpose()?;
        let trust = trust.map(|name| self.mount(name)).transpose()?;
        Ok(ClientFiles {
            certificate: identity.as_ref().and_then(|files| files.certificate.clone()),
            key: identity.and_then(|files| files.key),
            root: trust.and_then(|files| files.root),
        })
    }

    fn certificate_sha256(&self, certificate: &str) -> Option<String> {
        self.installation.certificate_sha256(certificate)
    }

    fn path(&self, reference: &str) -> Result<PathBuf, CredentialError> {
        Err(CredentialError::InTimeline(reference.to_owned()))
    }

    fn default_host(&self, service: Service) -> String {
        self.deployment.default_host(service)
    }

    fn application(&self) -> Application {
        self.deployment.application()
    }
}
