//! Which drivers there are, and starting those that a run needs.

mod container;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinSet;

use agent::ClientContainer;
use driver::exec::{ExecDriver, Program, ProgramLimits};
use driver::redis::RedisDriver;
use driver::rustls::{RustlsDriver, RustlsOptions};
use driver::served::OwnClient;
use driver::{Driver, DriverError, Opened, catalogue};
use model::connect::ConnectRequest;
use model::connect::NAUTOBOT_MOUNT;
use model::driver::{DriverInfo, Family};
use model::observation::ClientObservation;
use model::server::Service;
use os::toolchain::{NAUTOBOT_DRIVERS, Toolchain};
use os::user::RunAs;

/// A user's own client behind the exec protocol: `NAME=PROGRAM`, or `redis:NAME=PROGRAM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnDriver {
    /// What it connects to.
    pub service: Service,
    /// What scenarios call it.
    pub name: String,
    /// The program that is started for it.
    pub program: PathBuf,
}

/// A text that names no own driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected NAME=PROGRAM or redis:NAME=PROGRAM, such as my-client=./client.sh")]
pub struct OwnDriverError;

impl FromStr for OwnDriver {
    type Err = OwnDriverError;

    fn from_str(text: &str) -> Result<Self, OwnDriverError> {
        let (service, rest) = match text.strip_prefix("redis:") {
            Some(rest) => (Service::Redis, rest),
            None => (Service::Postgres, text.strip_prefix("postgres:").unwrap_or(text)),
        };
        match rest.split_once('=') {
            Some((name, program)) if !name.is_empty() && !program.is_empty() => {
                Ok(Self { service, name: name.to_owned(), program: PathBuf::from(program) })
            }
            _ => Err(OwnDriverError),
        }
    }
}

impl fmt::Display for OwnDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = if self.service == Service::Redis { "redis:" } else { "" };
        write!(f, "{service}{}={}", self.name, self.program.display())
    }
}

/// The drivers by name, the user's own included, before any is started.
#[must_use]
pub fn known(own: &[OwnDriver]) -> Vec<DriverInfo> {
    let mut drivers = catalogue::known();
    drivers.extend(own.iter().map(|own| DriverInfo {
        name: own.name.clone(),
        service: own.service,
        family: Family::Other,
        libpq: None,
        version: String::new(),
        tls_library: None,
    }));
    drivers
}

/// Why a known driver is not there; `None` if it is.
#[must_use]
pub fn missing(name: &str, toolchain: &Toolchain, own: &[OwnDriver]) -> Option<String> {
    let there = matches!(name, "rustls" | "redis-rs")
        // Whether there is a container for it, the environment knows.
        || catalogue::in_container(name).is_some()
        || toolchain.libpq.iter().any(|build| build.driver == name)
        || toolchain.python.iter().any(|build| build.driver == name)
        || own.iter().any(|own| own.name == name);
    if there {
        return None;
    }
    Some(match toolchain.missing(name) {
        Some(missing) if missing.closed => format!("driver {name} can't be used here: {}", missing.cost),
        Some(missing) => format!("driver {name} is not installed: {}", missing.cost),
        None => format!("driver {name} is not installed: `make setup` brings it"),
    })
}

/// What the user brings to the drivers.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// Clients behind the exec protocol.
    pub drivers: &'a [OwnDriver],
    /// A `nautobot_config.py` in place of ours.
    pub nautobot_config: Option<&'a Path>,
    /// Where that file finds tls.crt, tls.key and ca.crt.
    pub nautobot_mount: &'a str,
}

impl Default for Own<'_> {
    /// Nothing of his own. The directory is ours: an empty path would be the working directory, which is then given to clients.
    fn default() -> Self {
        Self { drivers: &[], nautobot_config: None, nautobot_mount: NAUTOBOT_MOUNT }
    }
}

/// Starts the drivers of these names, at the same time, and waits for their programs as `limits` says. They run as [`RunAs::of_clients`]. One
/// that doesn't start is there all the same: its cases end as errors. Those that run in a container are left out where there is no `client_container`.
pub async fn start(
    names: &BTreeSet<String>,
    toolchain: &Toolchain,
    own: Own<'_>,
    harness: &Path,
    directory: &Path,
    limits: ProgramLimits,
    client_container: Option<Arc<ClientContainer>>,
) -> HashMap<String, Arc<dyn Driver>> {
    let mut drivers: HashMap<String, Arc<dyn Driver>> = HashMap::new();
    let mut programs: BTreeMap<String, Result<Program, DriverError>> = BTreeMap::new();
    let (inside, names): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| catalogue::in_container(name).is_some());
    if let Some(client_container) = client_container.filter(|_| !inside.is_empty()) {
        programs.extend(container::programs(&inside, &client_container, directory).await);
    }
    let user = RunAs::of_clients();
    for name in names {
        match name.as_str() {
            // Within the harness they would run as root.
            "rustls" if user.is_none() => drop(drivers.insert(name.clone(), Arc::new(RustlsDriver::new(RustlsOptions::default())))),
            "redis-rs" if user.is_none() => drop(drivers.insert(name.clone(), Arc::new(RedisDriver::new()))),
            _ => {
                let program = if name == "rustls" {
                    Program::own(harness, OwnClient::Rustls, name, directory)
                } else if name == "redis-rs" {
                    Program::own(harness, OwnClient::RedisRs, name, directory)
                } else if let Some(build) = toolchain.libpq.iter().find(|build| build.driver == *name) {
                    Program::libpq(harness, build, directory)
                } else if let Some(build) = toolchain.python.iter().find(|build| build.driver == *name) {
                    if NAUTOBOT_DRIVERS.contains(&name.as_str()) {
                        Program::nautobot(build, own.nautobot_config, own.nautobot_mount, directory)
                    } else {
                        Program::python(build, directory)
                    }
                } else if let Some(own) = own.drivers.iter().find(|own| own.name == *name) {
                    Program::new(&own.program, &[], name, directory)
                } else {
                    continue;
                };
                programs.insert(name.clone(), program);
            }
        }
    }
    let mut starting = JoinSet::new();
    for (name, program) in programs {
        let user = user.clone();
        starting.spawn(async move {
            let started = match program {
                Ok(program) => {
                    let user = if program.client_container.is_some() { Some(RunAs::of_contained_clients()) } else { user };
                    ExecDriver::start(Program { limits, user, ..program }).await
                }
                Err(error) => Err(error),
            };
            (name, started)
        });
    }
    while let Some(joined) = starting.join_next().await {
        // A panic while starting: its cases find no driver of that name and are errors.
        let Ok((name, started)) = joined else { continue };
        let driver: Arc<dyn Driver> = match started {
            Ok(driver) => Arc::new(driver),
            Err(error) => Arc::new(NotStarted::new(&name, error)),
        };
        drivers.insert(name, driver);
    }
    drivers
}

/// A driver that could not be started: every call says why.
struct NotStarted {
    info: DriverInfo,
    error: DriverError,
}

impl NotStarted {
    fn new(name: &str, error: DriverError) -> Self {
        let info = catalogue::known().into_iter().find(|info| info.name == name).unwrap_or_else(|| DriverInfo {
            name: name.to_owned(),
            service: Service::Postgres,
            family: Family::Other,
            libpq: None,
            version: String::new(),
            tls_library: None,
        });
        Self { info, error }
    }
}

#[async_trait]
impl Driver for NotStarted {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    async fn connect(&self, _: &ConnectRequest, _: Duration) -> Result<ClientObservation, DriverError> {
        Err(self.error.clone())
    }

    async fn open(&self, _: &ConnectRequest, _: Duration) -> Result<Opened, DriverError> {
        Err(self.error.clone())
    }
}
