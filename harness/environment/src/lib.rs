//! Environments make a deployment real: they give endpoints, apply changes, and yield the servers' logs.

mod command;
#[cfg(feature = "container")]
pub mod container;
mod error;
mod installation;
pub mod local;
mod servers;

pub use command::CommandError;
pub use error::{
    AdminError, AskError, ChangeError, ConfigError, ConfigureCause, DataError, EnvironmentError, InstallError, LostCause, MachineError,
    MissingPart, StartCause, WrongState,
};
#[cfg(feature = "container")]
pub use error::{AgentContainerError, ImageError};
pub use servers::{ConfigFile, Configurator, InstallationTemplate, ManifestConfigurator, Paths, Servers, ServersOptions};

pub use installation::{Applied, Gateway, GatewayRoute, InstallOptions, Installation, Replication, ReplicationState};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use model::change::Change;
use model::claim::Subject;
use model::connect::Password;
use model::endpoint::Address;
use model::network::Networks;
use model::observation::LogLine;
use model::outcome::SkipReason;
use model::report::Component;
use model::server::{ServerConfig, ServerKey};
use os::command::CommandRun;
use os::dial::Dialer;

/// The log lines that a case waits for.
pub type LogCondition<'a> = &'a (dyn Fn(&[LogLine]) -> bool + Send + Sync);

/// A running server with a configuration applied.
#[async_trait]
pub trait Server: Send + Sync {
    /// Where its TCP port is.
    fn address(&self) -> SocketAddr;

    /// Its IPv6 address, where it listens on one.
    fn address_v6(&self) -> Option<SocketAddr>;

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

    /// Runs the `openssl` of the server's own machine, in a container as the server's user. `files` are those of this machine that `args`
    /// name: they are brought there first, under the same paths.
    ///
    /// # Errors
    /// [`CommandError`]. How the command ended is no error.
    async fn openssl(&self, args: &[String], files: &[PathBuf], limit: Duration) -> Result<CommandRun, CommandError>;

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

/// Where servers come from.
#[async_trait]
pub trait Environment: Send + Sync {
    /// `local`, ...
    fn name(&self) -> &'static str;

    /// The subjects that are real here: only they can confirm or refute claims about themselves.
    fn real_subjects(&self) -> &'static [Subject];

    /// What it found, for doctor and report.
    fn components(&self) -> Vec<Component>;

    /// The networks that clients can be in, and the gateway's. The same for the whole run.
    fn networks(&self) -> Networks;

    /// Why it can't give such a server; `None` if it can.
    fn unable(&self, key: ServerKey) -> Option<SkipReason>;

    /// The server of that key: started at the first call, the same one afterwards.
    ///
    /// # Errors
    /// [`EnvironmentError`] if it did not come up; the same error at later calls.
    async fn server(&self, key: ServerKey) -> Result<Arc<dyn Server>, EnvironmentError>;

    /// An installation for one timeline, its servers running.
    ///
    /// # Errors
    /// [`EnvironmentError`] if something of it did not come up, or if this environment can't make one.
    async fn install(&self, options: &InstallOptions) -> Result<Arc<dyn Installation>, EnvironmentError>;

    /// Why it can't put a gateway in front of such a server; `None` if it can.
    fn unable_gateway(&self, key: ServerKey) -> Option<SkipReason> {
        Some(SkipReason::EnvironmentUnable(format!("the environment {} has no gateway in front of {key}", self.name())))
    }

    /// Why it can't make such a change in any installation; `None` if it can. A timeline with one of these is skipped before anything of it
    /// starts.
    fn unable_change(&self, change: &Change<String>) -> Option<SkipReason> {
        let _ = change;
        None
    }

    /// The gateway in front of a key's server: started at the first call.
    ///
    /// # Errors
    /// [`EnvironmentError`] if it did not come up, or if this environment has none.
    async fn gateway(&self, key: ServerKey) -> Result<Arc<dyn Gateway>, EnvironmentError>;

    /// Stops everything; what could not be removed, each with what was tried.
    async fn close(&self) -> Vec<String>;
}
