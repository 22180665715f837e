//! Real servers as processes on loopback.

mod build;
mod copies;
mod initdb;
mod machine;
mod networks;
mod port;
#[cfg(test)]
mod tests;

pub use port::{PortSource, free_port, loopback};

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::machine::LocalMachines;
use super::EnvironmentError;
use super::servers::{Configurator, InstallationTemplate, Servers, ServersOptions};
use os::toolchain::Toolchain;
use os::user::RunAs;

/// What the local environment is made from.
#[derive(Clone)]
pub struct LocalOptions {
    /// The installed servers; a version that is not in it can't be had.
    pub toolchain: Toolchain,
    /// The run's directory, as in [`ServersOptions::run_directory`].
    pub run_directory: PathBuf,
    /// Where prepared data directories are kept from run to run. Made if it is missing.
    pub cache_directory: PathBuf,
    /// Says what files hold, as in [`ServersOptions::configurator`].
    pub configurator: Arc<dyn Configurator>,
    /// What installations are made from, as in [`ServersOptions::template`].
    pub template: Option<InstallationTemplate>,
    /// The user that servers run as; `None`: ourselves.
    pub user: Option<RunAs>,
    /// For each start, as in [`ServersOptions::start_limit`].
    pub start_limit: Duration,
    /// For each reload, as in [`ServersOptions::reload_limit`].
    pub reload_limit: Duration,
    /// Gives ports to try.
    pub ports: PortSource,
}

impl LocalOptions {
    /// Options with the defaults: those of [`ServersOptions::new`], a user of this run's own if we are root, free ports.
    #[must_use]
    pub fn new(
        toolchain: Toolchain,
        run_directory: impl Into<PathBuf>,
        cache_directory: impl Into<PathBuf>,
        configurator: Arc<dyn Configurator>,
    ) -> Self {
        Self::of(toolchain, cache_directory.into(), ServersOptions::new(run_directory, configurator))
    }

    /// The same with what all environments take.
    #[must_use]
    pub fn of(toolchain: Toolchain, cache_directory: PathBuf, servers: ServersOptions) -> Self {
        let ServersOptions { run_directory, configurator, template, start_limit, reload_limit } = servers;
        Self {
            toolchain,
            run_directory,
            cache_directory,
            configurator,
            template,
            user: RunAs::of_this_run(),
            start_limit,
            reload_limit,
            ports: Arc::new(free_port),
        }
    }
}

/// Servers as processes on this machine, without any yet.
///
/// # Errors
/// [`EnvironmentError::Random`] where the system gives no randomness for the password.
pub fn environment(options: LocalOptions) -> Result<Servers, EnvironmentError> {
    let LocalOptions { toolchain, run_directory, cache_directory, configurator, template, user, start_limit, reload_limit, ports } =
        options;
    let machines = LocalMachines::new(toolchain, run_directory.clone(), cache_directory, user, ports);
    Servers::on(Arc::new(machines), ServersOptions { run_directory, configurator, template, start_limit, reload_limit })
}
