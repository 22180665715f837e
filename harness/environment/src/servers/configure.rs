//! The files that configure a server: who says what they hold, and how they get written.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::ConfigError;
use deployment::gateway::TlsRoute;
use model::connect::Password;
use model::network::Networks;
use model::server::{Application, ServerConfig, ServerKey, Service};

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
    /// [`ConfigError`] for what can't be rendered or issued: it becomes the cause of an
    /// [`EnvironmentError::Configure`](crate::EnvironmentError::Configure).
    fn files(&self, key: ServerKey, config: &ServerConfig, paths: &Paths) -> Result<Vec<ConfigFile>, ConfigError>;

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
    /// The TCP port that it listens on, on all of `listen`.
    pub port: u16,
    /// Redis: the port for connections without TLS, where its configuration opens one.
    pub plaintext_port: u16,
    /// Counts the configurations applied so far, from 1.
    pub generation: u64,
    /// The password of the application's user: for Redis's `requirepass`. PostgreSQL's is set by `ALTER ROLE`.
    pub password: Password,
    /// The environment's networks, which lines of the deployment's pg_hba.conf can name.
    pub networks: Arc<Networks>,
}

/// A file that a server reads: configuration, certificate or key.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its absolute path on the server's machine.
    pub path: PathBuf,
    /// Its bytes, which may be secret: `Debug` leaves them out.
    pub contents: Vec<u8>,
    /// Its mode, such as `0o600`.
    pub mode: u32,
    /// Whose it is.
    pub owner: FileOwner,
}

/// Whose a server's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOwner {
    /// The server's user.
    Server,
    /// Another user, who isn't root either: only root can give a file away.
    Other,
    /// Root, and the group of the server's user.
    Root,
}

impl ConfigFile {
    /// A file of the server's user; `mode` such as `0o600`.
    #[must_use]
    pub fn of_server(path: PathBuf, contents: impl Into<Vec<u8>>, mode: u32) -> Self {
        Self { path, contents: contents.into(), mode, owner: FileOwner::Server }
    }
}

impl fmt::Debug for ConfigFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a key.
        write!(f, "ConfigFile({}, {} bytes, {:o})", self.path.display(), self.contents.len(), self.mode)
    }
}

/// Text for a quoted value of postgresql.conf.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_contents_are_not_shown_by_debug() {
        let file = ConfigFile::of_server(PathBuf::from("/x/tls.key"), "BEGIN PRIVATE KEY", 0o600);
        let shown = format!("{file:?}");
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
