//! Where servers run: this machine, or one of its own for each.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::io::{AsyncRead, AsyncWrite};

use super::configure::ConfigFile;
use crate::CommandError;
use crate::error::{Failure, LostCause, MachineError, NotInstalled};
use agent::{ClientContainer, RemoteChild};
use model::change::Change;
use model::claim::Subject;
use model::endpoint::Address;
use model::network::Networks;
use model::outcome::SkipReason;
use model::report::Component;
use model::server::{ServerKey, Service};
use os::child::{Child, ChildSpec};
use os::command::CommandRun;
use os::dial::Dialer;
use os::frozen::Frozen;
use os::toolchain::Tool;
use os::user::RunAs;

/// What a machine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A server of this key.
    Server(ServerKey),
    /// A gateway, in front of one server or several.
    Gateway,
}

/// Gives machines: what an environment differs in.
#[async_trait]
pub(crate) trait Machines: Send + Sync {
    /// The name that [`Environment::name`](crate::Environment::name) gives.
    fn name(&self) -> &'static str;

    /// See [`Environment::real_subjects`](crate::Environment::real_subjects).
    fn real_subjects(&self) -> &'static [Subject];

    /// See [`Environment::networks`](crate::Environment::networks).
    fn networks(&self) -> Networks;

    /// Who servers run as, for a report.
    fn servers_run_as(&self) -> String;

    /// See [`Environment::components`](crate::Environment::components).
    fn components(&self) -> Vec<Component>;

    /// Where clients can run beside this machine; `None`: nowhere.
    fn client_container(&self) -> Option<Arc<ClientContainer>> {
        None
    }

    /// Why something can't be had; `None` if it can.
    fn missing(&self, role: Role) -> Option<NotInstalled>;

    /// See [`Environment::unable_change`](crate::Environment::unable_change).
    fn unable_change(&self, change: &Change<String>) -> Option<SkipReason>;

    /// A machine for a role. `name` is the path of its own files on this machine, below the run's directory.
    async fn machine(&self, role: Role, name: &str) -> Result<Arc<dyn Machine>, Failure>;

    /// Ends all that is left; what could not be removed, each with what was tried.
    async fn close(&self) -> Vec<String>;
}

/// Where the things of one server are, as it sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directories {
    /// What holds the others and belongs to nobody else.
    pub(crate) root: PathBuf,
    /// See [`Paths`](super::Paths).
    pub(crate) certificates: PathBuf,
    /// See [`Paths`](super::Paths).
    pub(crate) data: PathBuf,
    /// See [`Paths`](super::Paths).
    pub(crate) sockets: PathBuf,
    /// See [`Paths`](super::Paths).
    pub(crate) logs: PathBuf,
}

impl Directories {
    /// All of them below `root`. CloudNativePG's names; short ones, since a unix socket's path has a narrow limit.
    pub(crate) fn below(root: PathBuf) -> Self {
        Self { certificates: root.join("certificates"), data: root.join("data"), sockets: root.join("run"), logs: root.join("log"), root }
    }
}

/// A machine: files and processes of servers.
#[async_trait]
pub(crate) trait Machine: Send + Sync {
    /// Where the things of the server `name` are.
    fn directories(&self, name: &str) -> Directories;

    /// Where this machine has a copy of a server's file: configuration, certificates and logs.
    fn here(&self, path: &Path) -> PathBuf;

    /// The user that servers run as; `None`: whoever we are.
    fn user(&self) -> Option<&RunAs>;

    /// The Redis on it.
    fn redis(&self) -> Option<&Tool>;

    /// The HAProxy on it.
    fn haproxy(&self) -> Option<&Tool>;

    /// The addresses that servers listen on.
    fn listen(&self) -> Vec<IpAddr>;

    /// The address at which clients find a server that listens on this port.
    fn address(&self, port: u16) -> SocketAddr;

    /// The same over IPv6.
    fn address_v6(&self, port: u16) -> Option<SocketAddr>;

    /// The address that a gateway has for the servers behind it.
    fn gateway_address(&self) -> IpAddr;

    /// The address at which a gateway finds a server that listens on this port.
    fn address_for_gateway(&self, port: u16) -> SocketAddr {
        self.address(port)
    }

    /// A port to try for a server of this service, or for a gateway's listener in front of it.
    fn free_port(&self, service: Service) -> io::Result<u16>;

    /// A port to try for the connections without TLS of a Redis.
    fn free_plaintext_port(&self) -> io::Result<u16> {
        self.free_port(Service::Redis)
    }

    /// The way to its ports.
    fn dialer(&self) -> Arc<dyn Dialer>;

    /// Makes a directory, empty. `owned`: it belongs to the servers' user.
    async fn make_directory(&self, path: &Path, mode: u32, owned: bool) -> io::Result<()>;

    /// Writes files, each by a rename; they belong to the servers' user.
    async fn write(&self, files: &[ConfigFile]) -> Result<(), MachineError>;

    /// Removes files. One that is not there is no error.
    async fn remove(&self, files: &[PathBuf]) -> Result<(), MachineError>;

    /// Makes an empty log file; all that it gets appears in [`Machine::here`] as long as the returned value lives.
    async fn make_log(&self, log: &Path) -> io::Result<Box<dyn Send + Sync>>;

    /// Waits until all that a log has got by now appears in [`Machine::here`].
    ///
    /// # Errors
    /// [`MachineError`] if it does not within `limit`.
    async fn await_log(&self, log: &Path, limit: Duration) -> Result<(), MachineError> {
        // There is one file on this machine.
        let _ = (log, limit);
        Ok(())
    }

    /// Why a log does not appear in [`Machine::here`] any more, while its server runs; `None` as long as all do.
    fn unseen_log(&self) -> Option<LostCause> {
        None
    }

    /// Makes a data directory of a PostgreSQL major version at `data`, with the roles and the database that all have; the directory of its
    /// programs.
    async fn make_data(&self, major: u16, data: &Path) -> Result<PathBuf, Failure>;

    /// Starts a process; its `log` is a file of this machine.
    async fn spawn(&self, spec: ChildSpec) -> Result<Process, MachineError>;

    /// See [`Server::openssl`](crate::Server::openssl).
    async fn openssl(&self, args: &[String], files: &[PathBuf], limit: Duration) -> Result<CommandRun, CommandError>;

    /// Connects to a unix socket.
    async fn unix(&self, socket: &Path) -> io::Result<Box<dyn Stream>>;

    /// A unix socket of a PostgreSQL as clients on this machine can name it; why they can't reach it.
    fn clients_socket(&self, directory: &Path, port: u16) -> Result<Address, MachineError>;

    /// Stops all processes of a server, so that none answers: `first`, which starts the others, and what works in `directory`. Dropping the
    /// result lets them go on, if they are of this machine.
    async fn pause(&self, directory: &Path, first: u32, limit: Duration) -> Result<Paused, MachineError>;

    /// Lets them go on.
    async fn resume(&self, paused: Paused) -> Result<(), MachineError>;

    /// Kills all processes of a server at once, paused or not, and returns when they are gone.
    async fn kill(&self, paused: Option<Paused>, directory: &Path, child: &mut Process, limit: Duration) -> Result<(), MachineError>;

    /// Makes sure that processes can be started on it, after [`Machine::kill`].
    async fn start_up(&self) -> Result<(), MachineError>;

    /// Cuts its server off: packets from and to clients are lost.
    async fn cut(&self) -> Result<(), MachineError>;

    /// Connects it again, with the same addresses.
    async fn mend(&self) -> Result<(), MachineError>;

    /// Ends it: its server is not needed any more.
    async fn close(&self);
}

/// A server that is paused.
#[derive(Debug)]
pub(crate) enum Paused {
    /// By its processes, on this machine.
    Processes(Frozen),
    /// By the engine, which froze its whole container.
    #[cfg_attr(not(feature = "container"), expect(dead_code, reason = "only the machines of the environment `container` make it"))]
    Container,
}

/// A stream of bytes to a server.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// A process of a machine. Dropping it stops it.
#[derive(Debug)]
pub(crate) enum Process {
    /// A child of this process.
    Local(Child),
    /// A child of the agent in a container.
    #[cfg_attr(not(feature = "container"), expect(dead_code, reason = "only the machines of the environment `container` make it"))]
    Remote(RemoteChild),
}

impl Process {
    /// Its id on its machine.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Local(child) => child.pid(),
            Self::Remote(child) => child.pid(),
        }
    }

    /// Whether its end is only that of whoever would have told: of its container, or of the agent in it.
    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Local(_) => false,
            Self::Remote(child) => child.is_lost(),
        }
    }

    /// Its exit status, if it has ended.
    pub(crate) fn try_wait(&mut self) -> Option<ExitStatus> {
        match self {
            Self::Local(child) => child.try_wait(),
            Self::Remote(child) => child.try_wait(),
        }
    }

    /// Waits for its end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Local(child) => child.wait().await,
            Self::Remote(child) => child.wait().await,
        }
    }

    /// Sends a signal to this process alone, not to those that it started.
    pub(crate) fn signal(&self, signal: Signal) {
        match self {
            Self::Local(child) => child.signal(signal),
            Self::Remote(child) => child.signal(signal),
        }
    }

    /// Stops it by its stop signal, and by SIGKILL after `limit`.
    pub(crate) async fn stop(&mut self, limit: Duration) {
        match self {
            Self::Local(child) => {
                child.stop(limit).await;
            }
            Self::Remote(child) => {
                child.stop(limit).await;
            }
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(key) => key.fmt(f),
            Self::Gateway => f.write_str("a gateway"),
        }
    }
}
