//! Servers, whichever machine they run on: one PostgreSQL for every version and deployment, one Redis for every deployment, started at
//! their first use and reconfigured in place; and installations.

mod configure;
pub(super) mod data_directory;
mod environment;
mod evidence;
mod gateway;
mod installation;
mod instance;
mod machine;
mod manifest;
mod postgres;
pub(super) mod random;
mod redis;
mod reload;
mod shared;
mod trial;
mod written;

pub use configure::{ConfigFile, Configurator, FileOwner, Paths};
pub use environment::Servers;
#[cfg(test)]
pub(super) use gateway::{Backend, HaproxyGateway};
pub use installation::InstallationTemplate;
pub(super) use machine::{Directories, Machine, Machines, Paused, Process, Role, Stream};
pub use manifest::ManifestConfigurator;
pub use shared::ServersOptions;
#[cfg(test)]
pub(super) use written::Written;
