//! Credential and trust files, read when and as libpq reads them (`initialize_SSL` in fe-secure-openssl.c).
//!
//! libpq falls back to `~/.postgresql/` where an option is unset; a harness must not depend on the home directory it runs in, so here an
//! unset option is a file that does not exist.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use crate::model::connect::ClientFiles;
use crate::model::refusal::FileRefusal;

/// A file could not be used; `text` is worded as libpq words it where libpq has a message for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FileError {
    /// The class.
    pub refusal: FileRefusal,
    /// What was found, with the path.
    pub text: String,
}

impl FileError {
    fn new(refusal: FileRefusal, text: impl Into<String>) -> Self {
        Self { refusal, text: text.into() }
    }
}

/// A certificate chain with its key.
pub type ClientCredential = Arc<CertifiedKey>;

/// The file's name for messages, or libpq's default place for an unset option.
fn shown(path: Option<&Path>, default: &str) -> String {
    path.map_or_else(|| format!("~/.postgresql/{default} (option unset)"), |path| path.display().to_string())
}

/// The roots of `sslrootcert`; `None` where the file does not exist and the mode gets by without (`must_exist` is false).
///
/// # Errors
/// [`FileRefusal::RootMissing`] and [`FileRefusal::RootUnusable`].
pub fn read_roots(path: Option<&Path>, must_exist: bool) -> Result<Option<RootCertStore>, FileError> {
    let existing = path.filter(|path| path.metadata().is_ok());
    let Some(existing) = existing else {
        if must_exist {
            let name = shown(path, "root.crt");
            return Err(FileError::new(
                FileRefusal::RootMissing,
                format!(
                    "root certificate file \"{name}\" does not exist; provide the file or change sslmode to disable server certificate verification"
                ),
            ));
        }
        return Ok(None);
    };
    let unusable = |reason: String| {
        FileError::new(FileRefusal::RootUnusable, format!("could not read root certificate file \"{}\": {reason}", existing.display()))
    };
    let certificates = read_certificates(existing).map_err(&unusable)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    Ok(Some(roots))
}

/// Certificate and key of `sslcert` and `sslkey` by libpq's rules: a missing certificate is no certificate; a missing, too open,
/// unreadable or foreign key is an error.
///
/// # Errors
/// [`FileRefusal::CertificateUnusable`], [`FileRefusal::KeyMissing`], [`FileRefusal::KeyPermissions`], [`FileRefusal::KeyUnusable`],
/// [`FileRefusal::KeyMismatch`].
pub fn read_client_credential(files: &ClientFiles, provider: &CryptoProvider) -> Result<Option<ClientCredential>, FileError> {
    let Some(certificate) = &files.certificate else { return Ok(None) };
    if let Err(error) = certificate.metadata() {
        // ENOENT and ENOTDIR mean no certificate; anything else is a complaint.
        return match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(FileError::new(
                FileRefusal::CertificateUnusable,
                format!("could not open certificate file \"{}\": {error}", certificate.display()),
            )),
        };
    }
    let key = checked_key_path(files.key.as_ref())?;
    load(certificate, key, provider).map(Some)
}

/// Certificate and key for a client that insists on every file it is given, as Redis clients do. Modes don't matter to those.
///
/// # Errors
/// As [`read_client_credential`], [`FileRefusal::CertificateMissing`] in place of no certificate, and never
/// [`FileRefusal::KeyPermissions`].
pub fn require_client_credential(files: &ClientFiles, provider: &CryptoProvider) -> Result<Option<ClientCredential>, FileError> {
    let Some(certificate) = &files.certificate else { return Ok(None) };
    if certificate.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let text = format!("certificate file \"{}\" does not exist", certificate.display());
        return Err(FileError::new(FileRefusal::CertificateMissing, text));
    }
    let key = files.key.as_ref().filter(|key| key.metadata().is_ok()).ok_or_else(|| {
        let name = files.key.as_ref().map_or_else(|| "(option unset)".to_owned(), |key| key.display().to_string());
        FileError::new(FileRefusal::KeyMissing, format!("private key file \"{name}\" does not exist"))
    })?;
    load(certificate, key, provider).map(Some)
}

fn checked_key_path(key: Option<&PathBuf>) -> Result<&PathBuf, FileError> {
    let missing = || {
        let name = shown(key.map(PathBuf::as_path), "postgresql.key");
        FileError::new(FileRefusal::KeyMissing, format!("certificate present, but not private key file \"{name}\""))
    };
    let key = key.ok_or_else(missing)?;
    let metadata = match key.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(missing()),
        Err(error) => {
            let text = format!("could not stat private key file \"{}\": {error}", key.display());
            return Err(FileError::new(FileRefusal::KeyUnusable, text));
        }
    };
    if !metadata.is_file() {
        let text = format!("private key file \"{}\" is not a regular file", key.display());
        return Err(FileError::new(FileRefusal::KeyUnusable, text));
    }
    if is_too_open(metadata.uid(), metadata.mode()) {
        let text = format!(
            "private key file \"{}\" has group or world access; file must have permissions u=rw (0600) or less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root",
            key.display()
        );
        return Err(FileError::new(FileRefusal::KeyPermissions, text));
    }
    Ok(key)
}

/// libpq's rule: a key of root's may be readable by its group, any other key only by its owner.
fn is_too_open(owner: u32, mode: u32) -> bool {
    let forbidden = if owner == 0 { 0o037 } else { 0o077 };
    mode & forbidden != 0
}

fn load(certificate: &Path, key: &Path, provider: &CryptoProvider) -> Result<ClientCredential, FileError> {
    let chain = read_certificates(certificate).map_err(|reason| {
        let text = format!("could not read certificate file \"{}\": {reason}", certificate.display());
        FileError::new(FileRefusal::CertificateUnusable, text)
    })?;
    let key_error =
        |refusal, reason: String| FileError::new(refusal, format!("could not load private key file \"{}\": {reason}", key.display()));
    let bytes = std::fs::read(key).map_err(|error| key_error(FileRefusal::KeyUnusable, error.to_string()))?;
    let der = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| key_error(FileRefusal::KeyUnusable, error.to_string()))?;
    let signer = provider.key_provider.load_private_key(der).map_err(|error| key_error(FileRefusal::KeyUnusable, error.to_string()))?;
    let credential = CertifiedKey::new(chain, signer);
    match credential.keys_match() {
        // A key that can't tell its public half is taken at its word, as rustls does.
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(credential)),
        Err(Error::InconsistentKeys(_)) => Err(key_error(FileRefusal::KeyMismatch, "key values mismatch".to_owned())),
        Err(error) => Err(FileError::new(
            FileRefusal::CertificateUnusable,
            format!("could not read certificate file \"{}\": {error}", certificate.display()),
        )),
    }
}

/// All certificates of a PEM file; at least one.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let certificates = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("no certificate found".to_owned()) } else { Ok(certificates) }
}
