//! What can go wrong with an environment, by cause. Errors are told again to every case that asks for the same server, so all of them can be
//! cloned: causes that can't are shared.

mod admin;
mod config;
mod configure;
#[cfg(feature = "container")]
mod container;
mod data;
mod environment;
mod failure;
mod install;
mod lost;
mod machine;
mod missing;
mod start;

pub use admin::{AdminError, AskError};
pub use config::ConfigError;
pub use configure::ConfigureCause;
#[cfg(feature = "container")]
pub use container::{AgentContainerError, ImageError};
pub use data::DataError;
pub use environment::EnvironmentError;
pub(crate) use failure::Failure;
pub use install::{ChangeError, InstallError, MissingPart, WrongState};
pub use lost::LostCause;
pub use machine::MachineError;
pub use missing::NotInstalled;
pub use start::StartCause;
