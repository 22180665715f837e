//! The files that clients use, by the names that scenarios give them.

use std::path::PathBuf;

use model::change::Target;
use model::connect::ClientFiles;
use model::server::{Application, Service};
use pki::PkiError;

/// A name in a scenario stands for no file.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The credential could not be issued or written.
    #[error(transparent)]
    Issue(#[from] PkiError),
    /// A file is to belong to somebody else: only root can give files away.
    #[error("the key of `{name}` is to belong to {owner}, and only a harness that root runs can give a file away: {harness} runs this one")]
    NotGiven {
        /// Whose it is, as scenarios call it.
        name: String,
        /// `root` or `another user`.
        owner: &'static str,
        /// Who runs the harness.
        harness: String,
    },
    /// A reference of another form than the four that there are.
    #[error("`${{{0}}}` names nothing: write identity:NAME/tls.crt, identity:NAME/tls.key, identity:NAME/ca.crt or trust:NAME")]
    UnknownReference(String),
    /// The text that holds a reference without an end.
    #[error("`${{` without `}}` in {0:?}")]
    OpenReference(String),
    /// A `${server:FILE}` that this kind of server has not.
    #[error("the server has no file `{0}`")]
    NoServerFile(String),
    /// A client of a timeline uses something else than a mounted Secret.
    #[error("`{0}` is no mount: client and site are")]
    UnknownMount(String),
    /// The installation mounts no Secret for such clients.
    #[error("the installation has no mount for {0}")]
    NoMount(Target),
    /// `${identity:...}` and `${trust:...}`, where files change all the time.
    #[error("`${{{0}}}` has no meaning in a timeline")]
    InTimeline(String),
}

/// Issues credentials by name.
pub trait CredentialSource: Send + Sync {
    /// Certificate, key and root of an identity and a trust; `None` leaves the options unset.
    ///
    /// # Errors
    /// [`CredentialError`] where something can't be issued or written.
    fn client_files(&self, identity: Option<&str>, trust: Option<&str>) -> Result<ClientFiles, CredentialError>;

    /// SHA-256 of an identity's certificate, lower-case hex.
    fn certificate_sha256(&self, identity: &str) -> Option<String>;

    /// The path behind `identity:NAME/FILE` or `trust:NAME` in `openssl` arguments.
    ///
    /// # Errors
    /// [`CredentialError`] where the reference names nothing.
    fn path(&self, reference: &str) -> Result<PathBuf, CredentialError>;

    /// The name that the deployment's clients use for a service: its server certificate's common name.
    fn default_host(&self, service: Service) -> String;

    /// The user and database of the deployment's clients.
    fn application(&self) -> Application;
}
