//! The files that clients use, by the names that scenarios give them.

use std::path::PathBuf;

use model::connect::ClientFiles;
use model::server::{Application, Service};

/// Issues credentials by name. An error is one line that says which name, and what went wrong.
pub trait CredentialSource: Send + Sync {
    /// Certificate, key and root of an identity and a trust; `None` leaves the options unset.
    ///
    /// # Errors
    /// A line of text where something can't be issued or written.
    fn client_files(&self, identity: Option<&str>, trust: Option<&str>) -> Result<ClientFiles, String>;

    /// SHA-256 of an identity's certificate, lower-case hex.
    fn certificate_sha256(&self, identity: &str) -> Option<String>;

    /// The path behind `identity:NAME/FILE` or `trust:NAME` in `openssl` arguments.
    ///
    /// # Errors
    /// A line of text where the reference names nothing.
    fn path(&self, reference: &str) -> Result<PathBuf, String>;

    /// The name that the deployment's clients use for a service: its server certificate's common name.
    fn default_host(&self, service: Service) -> String;

    /// The user and database of the deployment's clients.
    fn application(&self) -> Application;
}
