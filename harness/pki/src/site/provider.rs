//! A secrets provider: a directory with one folder a credential and one file a field.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::error::PkiError;
use model::credential::ProviderText;
use os::tree;

/// A secrets provider. What it gives back is not always the text that was put in.
#[derive(Debug)]
pub struct Provider {
    directory: PathBuf,
    text: ProviderText,
}

impl Provider {
    /// Below this directory, which is made at the first use, for the user of this process alone: keys are in it.
    #[must_use]
    pub fn new(directory: PathBuf, text: ProviderText) -> Self {
        Self { directory, text }
    }

    /// Sets a field of a credential. Whoever reads it meanwhile gets the text from before or this one.
    ///
    /// # Errors
    /// [`PkiError::Write`].
    pub fn put(&self, credential: &str, field: &str, text: &str) -> Result<(), PkiError> {
        let path = self.path(credential, field);
        let folder = self.directory.join(credential);
        make_private(&self.directory).and_then(|()| make_private(&folder)).map_err(|error| failed(&folder, error))?;
        tree::replace(&path, self.text.of(text).as_bytes(), 0o600, None).map_err(|error| failed(&path, error))
    }

    /// A field of a credential; `None` if there is none.
    ///
    /// # Errors
    /// [`PkiError::Read`] if it is there and can't be read.
    pub fn text(&self, credential: &str, field: &str) -> Result<Option<String>, PkiError> {
        let path = self.path(credential, field);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PkiError::Read { path, source: error.into() }),
        }
    }

    fn path(&self, credential: &str, field: &str) -> PathBuf {
        self.directory.join(credential).join(field)
    }
}

fn make_private(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700))
}

fn failed(path: &Path, error: std::io::Error) -> PkiError {
    PkiError::Write { path: path.to_path_buf(), source: error.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_given_back_as_the_provider_keeps_it() {
        let directory = tempfile::tempdir().expect("a directory");
        for (text, expected) in [
            (ProviderText::Unchanged, "-----BEGIN A-----\nYQ==\n-----END A-----\n-----BEGIN B-----\n"),
            (ProviderText::Crlf, "-----BEGIN A-----\r\nYQ==\r\n-----END A-----\r\n-----BEGIN B-----\r\n"),
            (ProviderText::Cr, "-----BEGIN A-----\rYQ==\r-----END A-----\r-----BEGIN B-----\r"),
            (ProviderText::WrittenOutCr, "-----BEGIN A-----\\r\nYQ==\\r\n-----END A-----\\r\n-----BEGIN B-----\\r\n"),
            (ProviderText::OneLine, "-----BEGIN A----- YQ== -----END A----- -----BEGIN B----- "),
            (ProviderText::BlocksJoinedBySpace, "-----BEGIN A-----\nYQ==\n-----END A----- -----BEGIN B-----\n"),
            (ProviderText::BlocksJoined, "-----BEGIN A-----\nYQ==\n-----END A----------BEGIN B-----\n"),
        ] {
            let provider = Provider::new(directory.path().join(format!("{text:?}")), text);
            assert_eq!(provider.text("site", "password").expect("there is nothing to read"), None);
            provider.put("site", "password", "-----BEGIN A-----\nYQ==\n-----END A-----\n-----BEGIN B-----\n").expect("put");
            assert_eq!(provider.text("site", "password").expect("readable").as_deref(), Some(expected), "{text:?}");
        }
    }

    #[test]
    fn nobody_else_can_look_into_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let provider = Provider::new(directory.path().join("provider"), ProviderText::Unchanged);
        provider.put("site", "password", "x").expect("put");
        let mode = |path: &str| fs::metadata(directory.path().join(path)).expect("there").permissions().mode() & 0o777;
        assert_eq!([mode("provider"), mode("provider/site"), mode("provider/site/password")], [0o700, 0o700, 0o600]);
    }
}
