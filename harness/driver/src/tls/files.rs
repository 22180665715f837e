//! Credential and trust files, read when and as libpq reads them (`initialize_SSL` in fe-secure-openssl.c).
//!
//! libpq falls back to `~/.postgresql/` where an option is unset; a harness must not depend on the home directory it runs in, so here an
//! unset option is a file that does not exist.

use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::config::TlsKit;
use super::credential::ClientCredential;
use model::connect::ClientFiles;
use model::refusal::FileRefusal;

/// A file could not be used; `text` is worded as libpq words it where libpq has a message for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct FileError {
    /// The class by which expectations name it.
    pub refusal: FileRefusal,
    /// What was found, with the path.
    pub text: String,
}

impl FileError {
    fn new(refusal: FileRefusal, text: impl Into<String>) -> Self {
        Self { refusal, text: text.into() }
    }
}

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
    let unusable = |reason: &dyn fmt::Display| {
        FileError::new(FileRefusal::RootUnusable, format!("could not read root certificate file \"{}\": {reason}", existing.display()))
    };
    let pem = std::fs::read(existing).map_err(|error| unusable(&error))?;
    let certificates = certificates_of(&pem).map_err(|error| unusable(&error))?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    Ok(Some(roots))
}

/// Certificate and key of `sslcert` and `sslkey` by libpq's rules: a missing certificate is no certificate; a missing, too open,
/// unreadable or foreign key is an error.
///
/// # Errors
/// [`FileRefusal::CertificateUnusable`], [`FileRefusal::KeyMissing`], [`FileRefusal::KeyPermissions`], [`FileRefusal::KeyUnusable`],
/// [`FileRefusal::KeyMismatch`].
pub fn read_client_credential(files: &ClientFiles, kit: &TlsKit) -> Result<Option<ClientCredential>, FileError> {
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
    load(certificate, key, kit).map(Some)
}

/// Certificate and key for a client that insists on every file it is given, as Redis clients do. Modes don't matter to those.
///
/// # Errors
/// As [`read_client_credential`], [`FileRefusal::CertificateMissing`] in place of no certificate, and never
/// [`FileRefusal::KeyPermissions`].
pub fn require_client_credential(files: &ClientFiles, kit: &TlsKit) -> Result<Option<ClientCredential>, FileError> {
    let Some(certificate) = &files.certificate else { return Ok(None) };
    if certificate.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let text = format!("certificate file \"{}\" does not exist", certificate.display());
        return Err(FileError::new(FileRefusal::CertificateMissing, text));
    }
    let key = files.key.as_ref().filter(|key| key.metadata().is_ok()).ok_or_else(|| {
        let name = files.key.as_ref().map_or_else(|| "(option unset)".to_owned(), |key| key.display().to_string());
        FileError::new(FileRefusal::KeyMissing, format!("private key file \"{name}\" does not exist"))
    })?;
    load(certificate, key, kit).map(Some)
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

fn load(certificate: &Path, key: &Path, kit: &TlsKit) -> Result<ClientCredential, FileError> {
    let certificate_error = |reason: &dyn fmt::Display| {
        let text = format!("could not read certificate file \"{}\": {reason}", certificate.display());
        FileError::new(FileRefusal::CertificateUnusable, text)
    };
    let key_error = |refusal, reason: &dyn fmt::Display| {
        FileError::new(refusal, format!("could not load private key file \"{}\": {reason}", key.display()))
    };
    let certificate_pem = std::fs::read(certificate).map_err(|error| certificate_error(&error))?;
    let key_pem = std::fs::read(key).map_err(|error| key_error(FileRefusal::KeyUnusable, &error))?;
    kit.credentials().get_or_load((certificate_pem, key_pem), |(certificate_pem, key_pem)| {
        let chain = certificates_of(certificate_pem).map_err(|error| certificate_error(&error))?;
        let key_unusable = |reason: &dyn fmt::Display| key_error(FileRefusal::KeyUnusable, reason);
        let der = PrivateKeyDer::from_pem_slice(key_pem).map_err(|error| key_unusable(&error))?;
        let signer = kit.provider().key_provider.load_private_key(der).map_err(|error| key_unusable(&error))?;
        let credential = CertifiedKey::new(chain, signer);
        match credential.keys_match() {
            // A key that can't tell its public half is taken at its word, as rustls does.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(Arc::new(credential)),
            Err(Error::InconsistentKeys(_)) => Err(key_error(FileRefusal::KeyMismatch, &"key values mismatch")),
            Err(error) => Err(certificate_error(&error)),
        }
    })
}

/// A file holds no certificates.
#[derive(Debug, thiserror::Error)]
enum NoCertificates {
    #[error("no certificate found")]
    None,
    #[error(transparent)]
    NotPem(#[from] pem::Error),
}

/// All certificates of a PEM file; at least one.
fn certificates_of(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NoCertificates> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err(NoCertificates::None) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tempfile::TempDir;

    use super::super::config::KxGroups;
    use super::*;

    struct Fixture {
        directory: TempDir,
        kit: TlsKit,
    }

    impl Fixture {
        /// `app.crt` with `app.key`, and `other.key` of another certificate.
        fn new() -> Self {
            let fixture = Self { directory: TempDir::new().expect("a directory"), kit: TlsKit::new(KxGroups::ProviderDefault) };
            let app = rcgen::generate_simple_self_signed(["app".to_owned()]).expect("a certificate");
            fixture.write("app.crt", &app.cert.pem(), 0o644);
            fixture.write("app.key", &app.signing_key.serialize_pem(), 0o600);
            let other = rcgen::KeyPair::generate().expect("a key");
            fixture.write("other.key", &other.serialize_pem(), 0o600);
            fixture.write("garbage", "not PEM", 0o600);
            fixture
        }

        fn path(&self, name: &str) -> PathBuf {
            self.directory.path().join(name)
        }

        fn write(&self, name: &str, content: &str, mode: u32) {
            std::fs::write(self.path(name), content).expect("written");
            std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).expect("mode set");
        }

        fn files(&self, certificate: &str, key: &str) -> ClientFiles {
            ClientFiles { certificate: Some(self.path(certificate)), key: Some(self.path(key)), root: None }
        }

        fn libpq(&self, certificate: &str, key: &str) -> Result<bool, FileRefusal> {
            let result = read_client_credential(&self.files(certificate, key), &self.kit);
            result.map(|credential| credential.is_some()).map_err(|error| error.refusal)
        }

        fn strict(&self, certificate: &str, key: &str) -> Result<bool, FileRefusal> {
            let result = require_client_credential(&self.files(certificate, key), &self.kit);
            result.map(|credential| credential.is_some()).map_err(|error| error.refusal)
        }
    }

    #[test]
    fn a_missing_certificate_is_none_for_libpq_and_an_error_for_redis() {
        let fixture = Fixture::new();
        assert_eq!(fixture.libpq("missing", "app.key"), Ok(false));
        assert_eq!(fixture.libpq("garbage/below", "app.key"), Ok(false));
        assert_eq!(fixture.strict("missing", "app.key"), Err(FileRefusal::CertificateMissing));
    }

    #[test]
    fn each_unusable_file_has_its_class_and_the_control_loads() {
        let fixture = Fixture::new();
        assert_eq!(fixture.libpq("app.crt", "app.key"), Ok(true));
        assert_eq!(fixture.libpq("app.crt", "missing"), Err(FileRefusal::KeyMissing));
        assert_eq!(fixture.libpq("app.crt", "other.key"), Err(FileRefusal::KeyMismatch));
        assert_eq!(fixture.libpq("app.crt", "garbage"), Err(FileRefusal::KeyUnusable));
        assert_eq!(fixture.libpq("app.crt", "."), Err(FileRefusal::KeyUnusable));
        assert_eq!(fixture.libpq("garbage", "app.key"), Err(FileRefusal::CertificateUnusable));
        let unset = ClientFiles { key: None, ..fixture.files("app.crt", "app.key") };
        let error = read_client_credential(&unset, &fixture.kit).expect_err("no key");
        assert_eq!(error.refusal, FileRefusal::KeyMissing);
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_also_after_it_was_loaded_once() {
        let fixture = Fixture::new();
        assert_eq!(fixture.libpq("app.crt", "app.key"), Ok(true));
        std::fs::set_permissions(fixture.path("app.key"), std::fs::Permissions::from_mode(0o644)).expect("mode set");
        assert_eq!(fixture.libpq("app.crt", "app.key"), Err(FileRefusal::KeyPermissions));
        assert_eq!(fixture.strict("app.crt", "app.key"), Ok(true));
    }

    #[test]
    fn a_replaced_key_is_not_taken_from_the_cache() {
        let fixture = Fixture::new();
        assert_eq!(fixture.libpq("app.crt", "app.key"), Ok(true));
        std::fs::copy(fixture.path("other.key"), fixture.path("app.key")).expect("copied");
        assert_eq!(fixture.libpq("app.crt", "app.key"), Err(FileRefusal::KeyMismatch));
    }

    #[test]
    fn only_roots_key_may_be_readable_by_its_group() {
        assert!(!is_too_open(0, 0o100_640));
        assert!(is_too_open(0, 0o100_660));
        assert!(is_too_open(0, 0o100_644));
        assert!(is_too_open(1000, 0o100_640));
        assert!(!is_too_open(1000, 0o100_400));
    }

    #[test]
    fn a_missing_root_matters_only_to_modes_that_verify_and_garbage_to_all() {
        let fixture = Fixture::new();
        let roots = |name: &str, must_exist| read_roots(Some(&fixture.path(name)), must_exist).map(|roots| roots.map(|roots| roots.len()));
        assert_eq!(roots("app.crt", true), Ok(Some(1)));
        assert_eq!(roots("missing", false), Ok(None));
        assert_eq!(roots("missing", true).expect_err("missing").refusal, FileRefusal::RootMissing);
        assert_eq!(read_roots(None, true).expect_err("unset").refusal, FileRefusal::RootMissing);
        assert_eq!(roots("garbage", false).expect_err("garbage").refusal, FileRefusal::RootUnusable);
    }
}
