//! Environments make a deployment real: they give endpoints, apply changes, and yield the servers' logs.

mod command;
#[cfg(feature = "container")]
pub mod container;
mod environment;
mod error;
mod installation;
pub mod local;
mod server;
mod servers;

pub use command::CommandError;
pub use environment::Environment;
pub use error::{
    AdminError, AskError, ChangeError, ConfigError, ConfigureCause, DataError, EnvironmentError, InstallError, LostCause, MachineError,
    MissingPart, NotInstalled, StartCause, WrongState,
};
#[cfg(feature = "container")]
pub use error::{AgentContainerError, ImageError};
pub use server::{EvidenceFile, Server};
pub use serverlog::LogCondition;
pub use servers::{ConfigFile, Configurator, FileOwner, InstallationTemplate, ManifestConfigurator, Paths, Servers, ServersOptions};

pub use installation::{Applied, Gateway, GatewayRoute, InstallOptions, Installation, Replication, ReplicationState};
