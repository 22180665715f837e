//! An installation: the deployment once more, for one timeline alone, in a directory of its own: CA, Secrets, mounts and a server that change.

mod beginning;
mod clock;
mod directory;
mod fault;
mod mount;
mod mounted;
mod operator;
mod postgres;
mod redis;
mod replication;
mod running;
mod server;
mod site;
mod state;
mod template;

pub(super) use running::RunningInstallation;
pub use template::InstallationTemplate;
