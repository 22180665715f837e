//! What an installation does with a server of its own.

use async_trait::async_trait;

use super::super::configure::{ConfigFile, Paths};
use crate::environment::{Applied, EnvironmentError, Server};

/// All files of a server that come from the deployment.
pub(super) struct Files {
    /// Those that configure it.
    pub(super) configuration: Vec<ConfigFile>,
    /// Certificates, keys and CAs.
    pub(super) certificates: Vec<ConfigFile>,
}

/// Says what a server's files hold, once it is known where they are and which port it has.
pub(super) type FilesAt<'a> = &'a (dyn Fn(&Paths) -> Result<Files, String> + Send + Sync);

/// A server of an installation. It stays the same over its stops and starts, with its address.
#[async_trait]
pub(super) trait Installed: Server {
    /// Where its things are.
    fn paths(&self) -> &Paths;

    /// Writes its configuration files and tells it nothing.
    async fn write_configuration(&self, files: Vec<ConfigFile>) -> Result<(), EnvironmentError>;

    /// Writes its certificates, keys and CAs and tells it nothing.
    async fn write_certificates(&self, files: Vec<ConfigFile>) -> Result<(), EnvironmentError>;

    /// Makes it read its files again.
    async fn reload(&self) -> Result<Applied, EnvironmentError>;

    /// Whether it was not stopped. It may have ended by itself.
    async fn is_up(&self) -> bool;

    /// Starts it, stopped before. A start that it refuses is an objection, and it stays down.
    async fn start(&self) -> Result<Applied, EnvironmentError>;

    /// Stops it in order.
    async fn stop(&self) -> Result<(), EnvironmentError>;

    /// Ends the sessions of clients.
    async fn disconnect(&self) -> Result<(), EnvironmentError>;

    /// Stops it for good, in the fastest way that leaves nothing.
    async fn end(&self);

    /// The same without waiting for others: when the installation is dropped. Blocks for some milliseconds.
    fn abandon(&self);
}
