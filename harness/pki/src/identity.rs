//! A certificate with its key as the files that clients and servers are given.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::certified_key::CertifiedKey;
use super::error::PkiError;
use super::file_users::FileUsers;
use model::credential::{KeyOwner, SecretFile};
use os::tree;

/// What a file holds that is asked to hold no PEM.
pub(super) const GARBAGE: &str = "this is no PEM\n";

/// An issued identity or Secret: files on disk, and the same in memory.
#[derive(Clone)]
pub struct IssuedIdentity {
    /// Its name: an identity's or a Secret's.
    pub name: String,
    /// The leaf certificate in DER.
    pub der: Vec<u8>,
    /// SHA-256 of the leaf certificate, in lower-case hex.
    pub sha256: String,
    /// The leaf's serial number in decimal, as `pg_stat_ssl.client_serial` shows it.
    pub serial: String,
    /// The CN of the subject, which PostgreSQL takes for the user; `None` where it has none.
    pub common_name: Option<String>,
    /// The mode of `tls.key`, such as `0o600`.
    pub key_mode: u32,
    /// Whose `tls.key` is to be.
    pub key_owner: KeyOwner,
    /// Whether the file has that owner: only root can give files away, and without it they stay ours.
    pub has_owner: bool,
    directory: PathBuf,
    contents: BTreeMap<SecretFile, String>,
}

impl IssuedIdentity {
    /// The path of a file; it may name one that doesn't exist, where that is the variant.
    #[must_use]
    pub fn path(&self, file: SecretFile) -> PathBuf {
        self.directory.join(file.file_name())
    }

    /// What the file holds; `None` if it doesn't exist.
    #[must_use]
    pub fn content(&self, file: SecretFile) -> Option<&str> {
        self.contents.get(&file).map(String::as_str)
    }
}

/// Leaves the private key out: it must not reach a log.
impl fmt::Debug for IssuedIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedIdentity")
            .field("name", &self.name)
            .field("common_name", &self.common_name)
            .field("serial", &self.serial)
            .field("sha256", &self.sha256)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// How the files differ from a Secret's.
#[derive(Debug, Clone)]
pub(super) struct FileVariant<'a> {
    pub(super) with_intermediates: bool,
    /// The key in place of the certificate's own.
    pub(super) key_pem: Option<&'a str>,
    pub(super) key_mode: u32,
    pub(super) key_owner: KeyOwner,
    pub(super) missing: &'a [SecretFile],
    pub(super) garbage: &'a [SecretFile],
}

impl Default for FileVariant<'_> {
    fn default() -> Self {
        Self { with_intermediates: true, key_pem: None, key_mode: 0o600, key_owner: KeyOwner::Own, missing: &[], garbage: &[] }
    }
}

/// Writes the files below `directory`. Without `users` they are our own.
pub(super) fn write(
    name: &str,
    certified_key: &CertifiedKey,
    variant: &FileVariant<'_>,
    users: Option<&FileUsers>,
    directory: PathBuf,
) -> Result<IssuedIdentity, PkiError> {
    make_directory(&directory)?;
    let mut contents = BTreeMap::new();
    for file in [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca] {
        if variant.missing.contains(&file) {
            continue;
        }
        let content = if variant.garbage.contains(&file) {
            GARBAGE.to_owned()
        } else {
            match file {
                SecretFile::Certificate => certified_key.certificate_pem(variant.with_intermediates),
                SecretFile::Key => variant.key_pem.unwrap_or(&certified_key.key.pem).to_owned(),
                SecretFile::Ca => certified_key.ca_pem(),
            }
        };
        let mode = if file == SecretFile::Key { variant.key_mode } else { 0o644 };
        let path = directory.join(file.file_name());
        write_file(&path, &content, mode)?;
        let owner = if file == SecretFile::Key { variant.key_owner } else { KeyOwner::Own };
        give_away(&path, users, owner)?;
        contents.insert(file, content);
    }
    let key = KeyFile::of(variant.key_mode, variant.key_owner, users);
    Ok(issued(name, certified_key, key, directory, contents))
}

/// Writes the files of a volume below `directory`, all with one mode, as the kubelet does.
pub(super) fn mount(
    name: &str,
    certified_key: &CertifiedKey,
    contents: BTreeMap<SecretFile, String>,
    mode: u32,
    (owner, users): (KeyOwner, &FileUsers),
    directory: PathBuf,
) -> Result<IssuedIdentity, PkiError> {
    make_directory(&directory)?;
    for (file, content) in &contents {
        let path = directory.join(file.file_name());
        write_file(&path, content, mode)?;
        give_away(&path, Some(users), owner)?;
    }
    let key = KeyFile::of(mode, owner, Some(users));
    Ok(issued(name, certified_key, key, directory, contents))
}

/// Who can read a key's file.
#[derive(Clone, Copy)]
struct KeyFile {
    mode: u32,
    owner: KeyOwner,
    has_owner: bool,
}

impl KeyFile {
    fn of(mode: u32, owner: KeyOwner, users: Option<&FileUsers>) -> Self {
        Self { mode, owner, has_owner: users.is_none_or(|users| users.has(owner)) }
    }
}

fn issued(
    name: &str,
    certified_key: &CertifiedKey,
    key: KeyFile,
    directory: PathBuf,
    contents: BTreeMap<SecretFile, String>,
) -> IssuedIdentity {
    IssuedIdentity {
        name: name.to_owned(),
        der: certified_key.der.clone(),
        sha256: certified_key.sha256(),
        serial: certified_key.serial.to_string(),
        common_name: certified_key.common_name.clone(),
        key_mode: key.mode,
        key_owner: key.owner,
        has_owner: key.has_owner,
        directory,
        contents,
    }
}

fn give_away(path: &Path, users: Option<&FileUsers>, owner: KeyOwner) -> Result<(), PkiError> {
    tree::give(path, users.and_then(|users| users.owner(owner)).as_ref()).map_err(|error| failed(path, error))
}

/// Makes a directory that every user can look into who may enter the run's: clients run as another one.
pub(super) fn make_directory(directory: &Path) -> Result<(), PkiError> {
    fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(|error| failed(directory, error))
}

/// Writes a file that has its mode, whatever the umask, and never a wider one before.
pub(super) fn write_file(path: &Path, content: &str, mode: u32) -> Result<(), PkiError> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode & 0o600)
        .open(path)
        .map_err(|error| failed(path, error))?;
    file.write_all(content.as_bytes()).map_err(|error| failed(path, error))?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: impl Into<std::io::Error>) -> PkiError {
    PkiError::Write { path: path.to_path_buf(), source: Arc::new(error.into()) }
}
