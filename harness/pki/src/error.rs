//! Why a credential could not be made.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A credential could not be made. It is kept and given again where the credential is asked for again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PkiError {
    /// A name that nothing has.
    #[error("there is no {kind} `{name}`: {known}")]
    Unknown {
        /// `identity`, `trust`, `CRL`, `Secret`, `Certificate`, `issue of the Certificate`, `authority or Issuer`.
        kind: &'static str,
        /// The name as it stands in the scenario or the manifests.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// A variant that contradicts itself or the manifests.
    #[error("{what}: {reason}")]
    Invalid {
        /// Which credential, such as `identity `expired``.
        what: String,
        /// What is wrong, and what is allowed.
        reason: String,
    },
    /// The crypto library refused.
    #[error("{what} could not be issued: {reason}")]
    Issue {
        /// Which credential, as in [`PkiError::Invalid`].
        what: String,
        /// The words of rcgen or of the random generator.
        reason: String,
    },
    /// A file could not be read.
    #[error("{path} could not be read: {source}", path = path.display())]
    Read {
        /// The file or directory as it was to be opened or made.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
    /// A file could not be written.
    #[error("{path} could not be written: {source}; is the file system full or read-only?", path = path.display())]
    Write {
        /// The file or directory as it was to be opened or made.
        path: PathBuf,
        /// The operating system's reason.
        source: Arc<io::Error>,
    },
}

impl PkiError {
    /// An unknown name, with the known ones.
    pub(super) fn unknown<'a>(kind: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let known: Vec<_> = known.into_iter().collect();
        let known = if known.is_empty() { "none is known".to_owned() } else { format!("known are {}", known.join(", ")) };
        Self::Unknown { kind, name: name.to_owned(), known }
    }

    pub(super) fn invalid(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { what: what.into(), reason: reason.into() }
    }

    pub(super) fn issue(what: &str, reason: impl std::fmt::Display) -> Self {
        Self::Issue { what: what.to_owned(), reason: reason.to_string() }
    }
}
