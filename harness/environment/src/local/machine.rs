//! This machine: files below the run's directory, and child processes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;

use super::copies::Copies;
use super::port::PortSource;
use super::{build, initdb, networks};
use crate::CommandError;
use crate::error::{DataError, Failure, MachineError, NotInstalled};
use crate::servers::{ConfigFile, Directories, FileOwner, Machine, Machines, Paused, Process, Role, Stream};
use agent::UnixForward;
use model::change::{Change, Target};
use model::claim::Subject;
use model::endpoint::Address;
use model::network::Networks;
use model::outcome::SkipReason;
use model::report::Component;
use model::server::{ServerKey, Service};
use os::child::ChildSpec;
use os::command::{self, CommandRun};
use os::dial::{Dialer, Direct};
use os::frozen::Frozen;
use os::toolchain::{Tool, Toolchain};
use os::user::{self, RunAs};
use os::{poll, tree};

/// How often it is looked whether the processes of a killed server are gone: they take milliseconds.
const END_INTERVAL: Duration = Duration::from_millis(1);

/// The one machine that all servers share.
pub(super) struct LocalMachines(Arc<LocalMachine>);

/// This machine: every server has a directory below the run's, and a port of loopback.
pub(super) struct LocalMachine {
    toolchain: Toolchain,
    run_directory: PathBuf,
    cache_directory: PathBuf,
    user: Option<RunAs>,
    ports: PortSource,
    listen: Vec<IpAddr>,
    /// Ways to the servers' unix sockets, by their own, for clients of another user.
    forwards: Mutex<BTreeMap<PathBuf, UnixForward>>,
    /// What was prepared for a version, or why it can't be.
    prepared: BTreeMap<u16, OnceCell<Result<Prepared, Failure>>>,
}

/// A PostgreSQL version ready for use.
#[derive(Debug, Clone)]
struct Prepared {
    /// The directory of `postgres`.
    bin: PathBuf,
    /// The data directory to copy.
    template: PathBuf,
}

impl LocalMachines {
    pub(super) fn new(
        toolchain: Toolchain,
        run_directory: PathBuf,
        cache_directory: PathBuf,
        user: Option<RunAs>,
        ports: PortSource,
    ) -> Self {
        let prepared = toolchain.postgres.iter().map(|build| (build.major, OnceCell::new())).collect();
        let listen = super::loopback();
        Self(Arc::new(LocalMachine {
            toolchain,
            run_directory,
            cache_directory,
            user,
            ports,
            listen,
            forwards: Mutex::default(),
            prepared,
        }))
    }
}

#[async_trait]
impl Machines for LocalMachines {
    fn name(&self) -> &'static str {
        "local"
    }

    fn real_subjects(&self) -> &'static [Subject] {
        // Of what reads and copies the deployment's own files, the files are what is meant.
        const ALWAYS: [Subject; 6] =
            [Subject::Postgres, Subject::Libpq, Subject::Redis, Subject::Openssl, Subject::Clients, Subject::Config];
        const WITH_GATEWAY: [Subject; 7] =
            [Subject::Postgres, Subject::Libpq, Subject::Redis, Subject::Openssl, Subject::Clients, Subject::Config, Subject::Gateway];
        if self.0.toolchain.haproxy.is_some() { &WITH_GATEWAY } else { &ALWAYS }
    }

    fn networks(&self) -> Networks {
        networks::of_loopback()
    }

    fn servers_run_as(&self) -> String {
        user::shown(self.0.user.as_ref())
    }

    fn components(&self) -> Vec<Component> {
        let toolchain = &self.0.toolchain;
        let found = |name: String, version: &str, tls_library: Option<String>, origin: Option<&str>| Component {
            name,
            version: Some(version.to_owned()),
            tls_library,
            origin: origin.map(str::to_owned),
            missing: None,
        };
        let mut components: Vec<Component> = toolchain
            .postgres
            .iter()
            .map(|build| found(format!("postgres-{}", build.major), &build.version, build.openssl.clone(), Some(build.origin)))
            .collect();
        let tools = [
            ("redis", &toolchain.redis),
            ("haproxy", &toolchain.haproxy),
            ("openssl", &toolchain.openssl),
            ("pgbench", &toolchain.pgbench),
        ];
        components.extend(tools.iter().filter_map(|(name, tool)| {
            let tool = tool.as_ref()?;
            Some(found((*name).to_owned(), &tool.version, None, None))
        }));
        // Missing client libraries are the drivers' to tell.
        let ours = |name: &str| name.starts_with("postgres-") || tools.iter().any(|(tool, _)| *tool == name);
        components.extend(toolchain.missing.iter().filter(|missing| ours(&missing.name)).map(|missing| Component {
            name: missing.name.clone(),
            version: None,
            tls_library: None,
            origin: None,
            missing: Some(missing.cost.clone()),
        }));
        components
    }

    fn missing(&self, role: Role) -> Option<NotInstalled> {
        let toolchain = &self.0.toolchain;
        let (present, name, product) = match role {
            Role::Gateway => (toolchain.haproxy.is_some(), "haproxy".to_owned(), "HAProxy".to_owned()),
            Role::Server(ServerKey { service: Service::Redis, .. }) => (toolchain.redis.is_some(), "redis".to_owned(), "Redis".to_owned()),
            Role::Server(ServerKey { version, .. }) => {
                let major = version.unwrap_or_default();
                (toolchain.postgres(major).is_some(), format!("postgres-{major}"), format!("PostgreSQL {major}"))
            }
        };
        if present {
            return None;
        }
        Some(match toolchain.missing(&name) {
            Some(missing) if missing.closed => NotInstalled::Closed { product, cost: missing.cost.clone() },
            Some(missing) => NotInstalled::Program { product, cost: missing.cost.clone() },
            None => NotInstalled::Program { product, cost: "`make setup` brings it".to_owned() },
        })
    }

    fn unable_change(&self, change: &Change<String>) -> Option<SkipReason> {
        let (does, target) = match change {
            Change::Cut(target) => ("cut", target),
            Change::Mend(target) => ("mend", target),
            _ => return None,
        };
        let what = if *target == Target::Gateway { "a gateway's" } else { "a server's" };
        let reason = format!("the local environment can't {does} {what} network: run it with --environment container");
        Some(SkipReason::EnvironmentUnable(reason))
    }

    async fn machine(&self, _: Role, _: &str) -> Result<Arc<dyn Machine>, Failure> {
        Ok(Arc::clone(&self.0) as Arc<dyn Machine>)
    }

    async fn close(&self) -> Vec<String> {
        Vec::new()
    }
}

impl LocalMachine {
    /// A version's programs and prepared data directory, made ready at the first call.
    async fn prepare(&self, major: u16) -> Result<Prepared, Failure> {
        let missing = || Failure::new(DataError::NotInstalled { major }, &self.run_directory);
        let build = self.toolchain.postgres(major).ok_or_else(missing)?;
        let prepare = async || {
            let (user, scratch) = (self.user.as_ref(), self.run_directory.as_path());
            let bin = build::usable(build, user, scratch).await?;
            let named = user.map(RunAs::with_a_name);
            let template = initdb::prepared(build, &bin, named.as_ref(), &self.cache_directory, scratch).await?;
            Ok(Prepared { bin, template })
        };
        match self.prepared.get(&major) {
            Some(cell) => cell.get_or_init(prepare).await.clone(),
            None => prepare().await,
        }
    }
}

#[async_trait]
impl Machine for LocalMachine {
    fn directories(&self, name: &str) -> Directories {
        Directories::below(self.run_directory.join(name))
    }

    fn here(&self, path: &Path) -> PathBuf {
        path.to_path_buf()
    }

    fn user(&self) -> Option<&RunAs> {
        self.user.as_ref()
    }

    fn redis(&self) -> Option<&Tool> {
        self.toolchain.redis.as_ref()
    }

    fn haproxy(&self) -> Option<&Tool> {
        self.toolchain.haproxy.as_ref()
    }

    fn listen(&self) -> Vec<IpAddr> {
        self.listen.clone()
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.listen.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port)
    }

    fn address_v6(&self, port: u16) -> Option<SocketAddr> {
        self.listen.iter().find(|address| address.is_ipv6()).map(|address| SocketAddr::new(*address, port))
    }

    fn gateway_address(&self) -> IpAddr {
        networks::GATEWAY
    }

    fn free_port(&self, _: Service) -> io::Result<u16> {
        (self.ports)(&self.listen)
    }

    fn dialer(&self) -> Arc<dyn Dialer> {
        Arc::new(Direct)
    }

    async fn make_directory(&self, path: &Path, mode: u32, owned: bool) -> io::Result<()> {
        tree::make_directory(path, mode, self.user().filter(|_| owned))
    }

    async fn write(&self, files: &[ConfigFile]) -> Result<(), MachineError> {
        for ConfigFile { path, contents, mode, owner } in files {
            let other = match owner {
                FileOwner::Server => None,
                FileOwner::Other => Some(RunAs::another(self.user())),
                FileOwner::Root => Some(RunAs::root_with_group_of(self.user())),
            };
            if other.is_some() && !nix::unistd::geteuid().is_root() {
                return Err(MachineError::NotGiven {
                    name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    owner: if *owner == FileOwner::Root { "root" } else { "another user" },
                    harness: user::shown(None),
                });
            }
            tree::replace(path, contents, *mode, other.as_ref().or(self.user())).map_err(MachineError::file("write", path))?;
        }
        Ok(())
    }

    async fn remove(&self, files: &[PathBuf]) -> Result<(), MachineError> {
        for path in files {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(MachineError::file("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn make_log(&self, log: &Path) -> io::Result<Box<dyn Send + Sync>> {
        tree::create_private(log)?;
        tree::give(log, self.user())?;
        Ok(Box::new(()))
    }

    async fn make_data(&self, major: u16, data: &Path) -> Result<PathBuf, Failure> {
        let Prepared { bin, template } = self.prepare(major).await?;
        let (to, owner) = (data.to_path_buf(), self.user.clone());
        let copied = tokio::task::spawn_blocking(move || tree::copy(&template, &to, owner.as_ref())).await;
        match copied {
            Ok(Ok(())) => Ok(bin),
            Ok(Err(error)) => Err(Failure::new(DataError::CopyData(Arc::new(error)), data)),
            Err(error) => Err(Failure::new(DataError::from(error), data)),
        }
    }

    async fn spawn(&self, spec: ChildSpec) -> Result<Process, MachineError> {
        Ok(Process::Local(spec.spawn().await?))
    }

    async fn openssl(&self, args: &[String], files: &[PathBuf], limit: Duration) -> Result<CommandRun, CommandError> {
        let missing = || CommandError::Missing(SkipReason::MachineLacks("the `openssl` command is not installed".to_owned()));
        let tool = self.toolchain.openssl.as_ref().ok_or_else(missing)?;
        let Some(user) = &self.user else { return Ok(command::run(&tool.path, args, None, limit).await?) };
        let copies = Copies::make(&self.run_directory, files, user)?;
        let ran = command::run(&tool.path, &copies.there(args), Some(user), limit).await?;
        Ok(copies.back(ran))
    }

    async fn unix(&self, socket: &Path) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(UnixStream::connect(socket).await?))
    }

    fn clients_socket(&self, directory: &Path, port: u16) -> Result<Address, MachineError> {
        if self.user.is_none() {
            return Ok(Address::Unix { directory: directory.to_path_buf(), port });
        }
        // Servers' and clients' users are different, and neither has a name: the server is to see ours.
        let (here, name) = (directory.with_file_name("clients"), format!(".s.PGSQL.{port}"));
        let mut forwards = self.forwards.lock().unwrap_or_else(PoisonError::into_inner);
        forwards.retain(|socket, _| socket.exists());
        if let Entry::Vacant(vacant) = forwards.entry(here.join(&name)) {
            let opened = UnixForward::open_here(vacant.key(), &directory.join(&name));
            vacant.insert(opened.map_err(|error| MachineError::UnixForward { source: Arc::new(error) })?);
        }
        Ok(Address::Unix { directory: here, port })
    }

    async fn pause(&self, directory: &Path, first: u32, limit: Duration) -> Result<Paused, MachineError> {
        Ok(Paused::Processes(Frozen::freeze(directory, first, is_log_collector, limit).await?))
    }

    async fn resume(&self, paused: Paused) -> Result<(), MachineError> {
        drop(paused);
        Ok(())
    }

    async fn kill(&self, paused: Option<Paused>, directory: &Path, child: &mut Process, limit: Duration) -> Result<(), MachineError> {
        // First all are stopped, so that none sees another's end and has time to say something.
        let paused = match paused {
            Some(paused) => paused,
            None => self.pause(directory, child.pid().unwrap_or_default(), limit).await?,
        };
        if let Paused::Processes(frozen) = paused {
            frozen.kill();
        }
        // A zombie would still look like a server to the next one in its directory.
        let _ = tokio::time::timeout(limit, child.wait()).await;
        let nothing = || {
            let left = tree::processes_in(directory);
            std::future::ready(if left.is_empty() { Ok(()) } else { Err(format!("{left:?} are there")) })
        };
        Ok(poll::until("the end of its processes", limit, END_INTERVAL, nothing).await?)
    }

    async fn start_up(&self) -> Result<(), MachineError> {
        Ok(())
    }

    async fn cut(&self) -> Result<(), MachineError> {
        Err(MachineError::Loopback)
    }

    async fn mend(&self) -> Result<(), MachineError> {
        self.cut().await
    }

    async fn close(&self) {}
}

/// PostgreSQL's log collector (`postgres: logger`, with a cluster's name in between where it has one). It is left alone: it writes down what
/// others have said, reads its pipe to the end and goes by itself.
fn is_log_collector(command: &str) -> bool {
    command.starts_with("postgres: ") && command.ends_with("logger")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::servers::Written;

    fn file(directory: &Path, name: &str, contents: &str, mode: u32) -> ConfigFile {
        ConfigFile::of_server(directory.join(name), contents, mode)
    }

    fn machine() -> LocalMachines {
        let ports: PortSource = Arc::new(super::super::free_port);
        LocalMachines::new(Toolchain::default(), PathBuf::new(), PathBuf::new(), None, ports)
    }

    #[tokio::test]
    async fn only_differences_are_written_and_what_is_gone_is_removed() {
        let (directory, machine) = (tempfile::tempdir().expect("a directory"), machine());
        let (at, machine) = (directory.path(), machine.0.as_ref());
        let mut written = Written::default();
        let files = vec![file(at, "a", "1", 0o644), file(at, "key", "k", 0o400), file(at, "crl", "c", 0o644)];
        written.bring_to(files, machine).await.expect("writes");
        assert_eq!(std::fs::metadata(at.join("key")).expect("there").mode() & 0o777, 0o400);
        let inode = |name: &str| std::fs::metadata(at.join(name)).expect("there").ino();
        let before = inode("a");
        written.bring_to(vec![file(at, "a", "1", 0o644), file(at, "key", "other", 0o600)], machine).await.expect("writes");
        assert_eq!(inode("a"), before, "an equal file is left alone");
        assert_eq!(std::fs::read(at.join("key")).expect("there"), b"other");
        assert_eq!(std::fs::metadata(at.join("key")).expect("there").mode() & 0o777, 0o600);
        assert!(!at.join("crl").exists());
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named() {
        let (mut written, machine) = (Written::default(), machine());
        let files = vec![file(Path::new("/nonexistent"), "a", "1", 0o644)];
        let error = written.bring_to(files, machine.0.as_ref()).await.expect_err("can't be written");
        assert!(error.to_string().starts_with("could not write /nonexistent/a: "), "{error}");
    }
}
