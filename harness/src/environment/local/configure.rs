//! The files that configure a server: who says what they hold, and how they get written.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::deployment::gateway::TlsRoute;
use crate::model::connect::Password;
use crate::model::server::{Application, ServerConfig, ServerKey, Service};
use crate::os::tree;
use crate::os::user::RunAs;

/// Says what a server's configuration files hold.
pub trait Configurator: Send + Sync {
    /// All files for this configuration. PostgreSQL: `postgresql.conf`, `pg_hba.conf` and `pg_ident.conf` in [`Paths::data`]; Redis:
    /// `redis.conf` in [`Paths::data`]; certificates and keys in [`Paths::certificates`]. Called anew for every configuration; a file of
    /// the last one that is not among them is removed.
    ///
    /// What the harness itself needs (port, addresses, log, socket directory, directories) is set by the environment after these files
    /// and wins over them.
    ///
    /// # Errors
    /// What can't be rendered, in words: it becomes the reason of an [`EnvironmentError::Configure`](crate::environment::EnvironmentError::Configure).
    fn files(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, String>;

    /// The way through the gateway to a service's server; `None` where the deployment has none.
    fn route(&self, _service: Service) -> Option<TlsRoute> {
        None
    }

    /// The application's user and database, as they are to be on the server.
    fn application(&self) -> Application {
        Application::default()
    }
}

/// Where a server's things are.
#[derive(Debug, Clone)]
pub struct Paths {
    /// For certificates, keys and revocation lists: CloudNativePG's `/controller/certificates`.
    pub certificates: PathBuf,
    /// The data directory, in which the configuration files are.
    pub data: PathBuf,
    /// The directory of the unix socket.
    pub sockets: PathBuf,
    /// The directory of the log.
    pub logs: PathBuf,
    /// The name of the log file in it, as `log_filename` (PostgreSQL writes its JSON beside it, as `.json`) or the end of `logfile` takes it.
    pub log_file: &'static str,
    /// The addresses that it listens on.
    pub listen: Vec<IpAddr>,
    /// Its TCP port.
    pub port: u16,
    /// Counts the configurations applied so far, from 1.
    pub generation: u64,
    /// The password of the application's user: for Redis's `requirepass`. PostgreSQL's is set by `ALTER ROLE`.
    pub password: Password,
}

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its absolute path.
    pub path: PathBuf,
    /// What it holds.
    pub contents: Vec<u8>,
    /// Its mode, such as `0o600`. It belongs to the server's user.
    pub mode: u32,
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a key.
        write!(f, "ConfigFile({}, {} bytes, {:o})", self.path.display(), self.contents.len(), self.mode)
    }
}

/// What was written last, so that only differences are written.
#[derive(Debug, Default)]
pub(super) struct Written(BTreeMap<PathBuf, ConfigFile>);

impl Written {
    /// Brings the disk to `files`: writes what differs from the last time and removes what is no longer there.
    pub(super) fn bring_to(&mut self, files: Vec<ConfigFile>, owner: Option<&RunAs>) -> Result<(), String> {
        let next: BTreeMap<PathBuf, ConfigFile> = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let gone: Vec<PathBuf> = self.0.keys().filter(|path| !next.contains_key(*path)).cloned().collect();
        for path in gone {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(format!("could not remove {}: {error}", path.display()));
                }
                _ => self.0.remove(&path),
            };
        }
        for (path, file) in next {
            if self.0.get(&path) == Some(&file) {
                continue;
            }
            // Forgotten first: after a failure nobody knows what the file holds.
            self.0.remove(&path);
            tree::replace(&path, &file.contents, file.mode, owner)
                .map_err(|error| format!("could not write {}: {error}", path.display()))?;
            self.0.insert(path, file);
        }
        Ok(())
    }
}

/// Text for a quoted value of postgresql.conf.
pub(super) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn file(directory: &Path, name: &str, contents: &str, mode: u32) -> ConfigFile {
        ConfigFile { path: directory.join(name), contents: contents.as_bytes().to_vec(), mode }
    }

    #[test]
    fn only_differences_are_written_and_what_is_gone_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path();
        let mut written = Written::default();
        written.bring_to(vec![file(at, "a", "1", 0o644), file(at, "key", "k", 0o400), file(at, "crl", "c", 0o644)], None).expect("writes");
        assert_eq!(std::fs::metadata(at.join("key")).expect("there").mode() & 0o777, 0o400);
        let inode = |name: &str| std::fs::metadata(at.join(name)).expect("there").ino();
        let before = inode("a");
        written.bring_to(vec![file(at, "a", "1", 0o644), file(at, "key", "other", 0o600)], None).expect("writes");
        assert_eq!(inode("a"), before, "an equal file is left alone");
        assert_eq!(std::fs::read(at.join("key")).expect("there"), b"other");
        assert_eq!(std::fs::metadata(at.join("key")).expect("there").mode() & 0o777, 0o600);
        assert!(!at.join("crl").exists());
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let mut written = Written::default();
        let error = written.bring_to(vec![file(Path::new("/nonexistent"), "a", "1", 0o644)], None).expect_err("can't be written");
        assert!(error.contains("/nonexistent/a"), "{error}");
    }

    #[test]
    fn a_files_contents_are_not_shown_by_debug() {
        let shown = format!("{:?}", file(Path::new("/x"), "tls.key", "BEGIN PRIVATE KEY", 0o600));
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
