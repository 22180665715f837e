//! The clients' files, issued from the deployment's manifests.

use std::path::PathBuf;
use std::sync::Arc;

use model::connect::ClientFiles;
use model::credential::{KeyOwner, SecretFile};
use model::server::{Application, Service};
use os::user;
use pki::{IssuedIdentity, Pki};
use run::credentials::{CredentialError, CredentialSource};

/// [`CredentialSource`] from a [`Pki`].
pub(super) struct Issued {
    pub(super) pki: Arc<Pki>,
}

impl Issued {
    /// An identity whose files have the owner that they are to have.
    fn given(&self, name: &str) -> Result<Arc<IssuedIdentity>, CredentialError> {
        let identity = self.pki.identity(name)?;
        let owner = match identity.key_owner {
            _ if identity.has_owner => return Ok(identity),
            KeyOwner::Root => "root",
            KeyOwner::Own | KeyOwner::Other => "another user",
        };
        Err(CredentialError::NotGiven { name: name.to_owned(), owner, harness: user::shown(None) })
    }

    fn root(&self, name: &str) -> Result<PathBuf, CredentialError> {
        if self.pki.is_distribution(name) {
            return Ok(self.given(name)?.path(SecretFile::Ca));
        }
        Ok(self.pki.trust(name)?)
    }
}

impl CredentialSource for Issued {
    fn client_files(&self, identity: Option<&str>, trust: Option<&str>) -> Result<ClientFiles, CredentialError> {
        let identity = identity.map(|name| self.given(name)).transpose()?;
        let root = trust.map(|name| self.root(name)).transpose()?;
        Ok(ClientFiles {
            certificate: identity.as_ref().map(|identity| identity.path(SecretFile::Certificate)),
            key: identity.as_ref().map(|identity| identity.path(SecretFile::Key)),
            root,
        })
    }

    fn certificate_sha256(&self, identity: &str) -> Option<String> {
        self.pki.identity(identity).ok().map(|identity| identity.sha256.clone())
    }

    fn path(&self, reference: &str) -> Result<PathBuf, CredentialError> {
        let unknown = || CredentialError::UnknownReference(reference.to_owned());
        match reference.split_once(':') {
            Some(("trust", name)) => self.root(name),
            Some(("identity", rest)) => {
                let (name, file) = rest.split_once('/').ok_or_else(unknown)?;
                let files = [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca];
                let file = files.into_iter().find(|candidate| candidate.file_name() == file).ok_or_else(unknown)?;
                Ok(self.given(name)?.path(file))
            }
            _ => Err(unknown()),
        }
    }

    fn default_host(&self, service: Service) -> String {
        let manifests = self.pki.manifests();
        let defaults = match service {
            Service::Postgres => manifests.postgres(),
            Service::Redis => manifests.redis_defaults(),
        };
        defaults.map(|defaults| defaults.host).unwrap_or_default()
    }

    fn application(&self) -> Application {
        self.pki.manifests().application()
    }
}
