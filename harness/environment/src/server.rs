//! A running server, as cases see it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::command::CommandError;
use super::error::{EnvironmentError, MachineError};
use model::connect::Password;
use model::endpoint::Address;
use model::observation::LogLine;
use model::server::ServerConfig;
use os::command::CommandRun;
use os::dial::Dialer;
use serverlog::LogCondition;

/// A file for whoever looks into a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceFile {
    /// Its name, without directories.
    pub name: String,
    /// Its bytes. No password of a configuration is in them; the run's own may be.
    pub contents: Vec<u8>,
}

/// A running server with a configuration applied.
#[async_trait]
pub trait Server: Send + Sync {
    /// Where its TCP port is.
    fn address(&self) -> SocketAddr;

    /// Its IPv6 address, where it listens on one.
    fn address_v6(&self) -> Option<SocketAddr>;

    /// Redis: the port that takes connections without TLS, at the same addresses; `None` where its configuration opens none.
    fn plaintext_port(&self) -> Option<u16> {
        None
    }

    /// The way to its TCP ports.
    fn dialer(&self) -> Arc<dyn Dialer>;

    /// Its unix socket, where it has one.
    ///
    /// # Errors
    /// [`MachineError`] where clients here can't reach the one that it has.
    fn unix_socket(&self) -> Result<Option<Address>, MachineError>;

    /// The password of the application's user, made for this run.
    fn password(&self) -> Password;

    /// Whether its log names the client in every line. If not, some lines are tied to their connection by order alone, and connections to
    /// this server must be made one at a time, each only after the log lines of the one before were asked for; or whoever asks must be content
    /// with [`Server::all_since`]. (Redis does not:
    /// `Error accepting a client connection` can stand there without an address.)
    fn log_names_clients(&self) -> bool {
        true
    }

    /// The log lines of the connections from these addresses, in order: returns as soon as `enough` holds for them, and at `limit` at the latest.
    async fn log_lines(&self, peers: &[SocketAddr], enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine>;

    /// Brings the server to this configuration by reload and returns when new connections see it. Nothing else may use the server meanwhile.
    ///
    /// # Errors
    /// [`EnvironmentError`] if it did not take it.
    async fn apply(&self, config: &ServerConfig) -> Result<(), EnvironmentError>;

    /// A file of this machine that holds what this server has, by the name CloudNativePG gives it (`client-ca.crt`, `server.crt`, ...).
    fn file(&self, name: &str) -> Option<PathBuf>;

    /// The same file on the server's own machine.
    fn own_file(&self, name: &str) -> Option<PathBuf>;

    /// Runs the `openssl` of the server's own machine, as the server's user. `files` are those of this machine that `args` name: they are
    /// brought there first, under the same paths in a container.
    ///
    /// # Errors
    /// [`CommandError`]. How the command ended is no error.
    async fn openssl(&self, args: &[String], files: &[PathBuf], limit: Duration) -> Result<CommandRun, CommandError>;

    /// Its configuration as it has read it, and its effective settings as it tells them, where it can be asked: for evidence.
    async fn evidence(&self) -> Vec<EvidenceFile> {
        Vec::new()
    }

    /// Its log, for evidence.
    fn log_path(&self) -> PathBuf;

    /// How far its log has come: for [`Server::says_since`].
    fn log_mark(&self) -> u64;

    /// The log lines since the mark that belong to no connection, in order: returns as soon as `enough` holds for them, and at `limit` at
    /// the latest.
    async fn says_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine>;

    /// All log lines since the mark, whichever connection they are about: for a server that doesn't name its clients, where several connect
    /// at a time. Returns as [`Server::says_since`] does.
    async fn all_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine>;

    /// Why nothing that a case saw says anything about this server any more: it has ended by itself, or its log can't be seen. One that the
    /// harness stopped, paused or killed is not lost.
    async fn lost(&self) -> Option<EnvironmentError>;
}
