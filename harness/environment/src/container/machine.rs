//! A container as a machine for a server.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::agent_container::AgentContainer;
use super::data::Archives;
use super::dialer::ContainerDialer;
use super::pool::ContainerPool;
use super::purpose::Purpose;
use crate::CommandError;
use crate::error::{DataError, Failure, LostCause, MachineError};
use crate::servers::{ConfigFile, Directories, FileOwner, Machine, Paused, Process, Stream};
use agent::{Agent, AgentError, DirectorySpec, FileSpec, Follower, Owner, Survey, UnixForward};
use model::endpoint::Address;
use model::network::NetworkName;
use model::outcome::SkipReason;
use model::server::Service;
use os::child::ChildSpec;
use os::command::{self, CommandRun};
use os::dial::Dialer;
use os::poll;
use os::toolchain::Tool;
use os::tree;
use os::user::RunAs;

/// The port of a PostgreSQL in a container of its own.
pub(super) const POSTGRES_PORT: u16 = 5432;
/// The port of a Redis in a container of its own.
pub(super) const REDIS_PORT: u16 = 6379;
/// The port of its connections without TLS, where it takes such.
const REDIS_PLAINTEXT_PORT: u16 = 6380;

/// The first port of a gateway's listeners: the gateways of a run share a container, so that servers see one address.
const FIRST_LISTENER: u16 = 10_000;

/// How often it is looked whether a log was copied: its lines take milliseconds.
const COPY_INTERVAL: Duration = Duration::from_millis(2);

/// A container for a server.
pub(super) struct ContainerMachine {
    purpose: Purpose,
    agent_container: Arc<AgentContainer>,
    dialer: Arc<ContainerDialer>,
    survey: Arc<Survey>,
    archives: Arc<Archives>,
    pool: Arc<ContainerPool>,
    /// Whether a fault was made: another server gets a container without a past.
    had_fault: AtomicBool,
    closed: AtomicBool,
    /// The id of its image, by which archives and free containers are found.
    image: String,
    /// Where copies of its files are kept: the run's directory for gateways, else the server's in it.
    here: PathBuf,
    next_listener: AtomicU16,
    logs: Mutex<Vec<FollowedLog>>,
    /// Carries connections from a unix socket here to the server's in the container.
    unix_forward: Mutex<Option<UnixForward>>,
}

/// A log that is brought here.
struct FollowedLog {
    there: PathBuf,
    here: PathBuf,
    follower: Follower,
}

/// What a [`ContainerMachine`] is made from.
pub(super) struct Parts {
    pub(super) purpose: Purpose,
    pub(super) agent_container: Arc<AgentContainer>,
    pub(super) clients: Arc<AgentContainer>,
    pub(super) survey: Arc<Survey>,
    pub(super) archives: Arc<Archives>,
    pub(super) pool: Arc<ContainerPool>,
    pub(super) image: String,
    pub(super) here: PathBuf,
}

impl ContainerMachine {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { purpose, agent_container, clients, survey, archives, pool, image, here } = parts;
        Self {
            purpose,
            dialer: Arc::new(ContainerDialer::new(clients, &agent_container)),
            agent_container,
            survey,
            archives,
            pool,
            had_fault: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            image,
            here,
            next_listener: AtomicU16::new(FIRST_LISTENER),
            logs: Mutex::default(),
            unix_forward: Mutex::default(),
        }
    }

    /// What holds everything of ours in the container. `/controller` is CloudNativePG's.
    fn root(&self) -> &'static Path {
        Path::new(match self.purpose {
            Purpose::Postgres => "/controller",
            Purpose::Redis => "/redis",
            Purpose::Gateway => "/gateway",
            Purpose::Gateways => "/gateways",
        })
    }

    fn owner(&self) -> Option<Owner> {
        self.user().map(Owner::from)
    }

    async fn follow(&self, there: PathBuf, here: PathBuf) -> Result<(), AgentError> {
        let follower = self.agent_container.agent().follow(&there, &here).await?;
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).push(FollowedLog { there, here, follower });
        Ok(())
    }

    fn address_in(&self, network: NetworkName) -> IpAddr {
        // Every server's container is on every network.
        self.agent_container.address_in(network).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

#[async_trait]
impl Machine for ContainerMachine {
    fn directories(&self, name: &str) -> Directories {
        match self.purpose {
            Purpose::Gateways => Directories::below(self.root().join(name)),
            Purpose::Postgres | Purpose::Redis | Purpose::Gateway => Directories::below(self.root().to_path_buf()),
        }
    }

    fn here(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.root()).map_or_else(|_| path.to_path_buf(), |below| self.here.join(below))
    }

    fn user(&self) -> Option<&RunAs> {
        self.survey.run_as()
    }

    fn redis(&self) -> Option<&Tool> {
        self.survey.toolchain.redis.as_ref()
    }

    fn haproxy(&self) -> Option<&Tool> {
        self.survey.toolchain.haproxy.as_ref()
    }

    fn listen(&self) -> Vec<IpAddr> {
        vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)]
    }

    fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address_in(NetworkName::Elsewhere), port)
    }

    fn address_v6(&self, port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port))
    }

    fn gateway_address(&self) -> IpAddr {
        self.address_in(NetworkName::Gateway)
    }

    fn address_for_gateway(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address_in(NetworkName::Gateway), port)
    }

    fn free_port(&self, service: Service) -> io::Result<u16> {
        Ok(match (self.purpose, service) {
            (Purpose::Gateway | Purpose::Gateways, _) => self.next_listener.fetch_add(1, Ordering::Relaxed),
            (_, Service::Postgres) => POSTGRES_PORT,
            (_, Service::Redis) => REDIS_PORT,
        })
    }

    fn free_plaintext_port(&self) -> io::Result<u16> {
        Ok(REDIS_PLAINTEXT_PORT)
    }

    fn dialer(&self) -> Arc<dyn Dialer> {
        Arc::clone(&self.dialer) as Arc<dyn Dialer>
    }

    async fn make_directory(&self, path: &Path, mode: u32, owned: bool) -> io::Result<()> {
        std::fs::create_dir_all(self.here(path))?;
        let owner = self.owner().filter(|_| owned);
        let directory = DirectorySpec { path: path.to_path_buf(), mode, owner };
        self.agent_container.agent().make_directories(&[directory]).await.map_err(AgentError::into_io)
    }

    async fn write(&self, files: &[ConfigFile]) -> Result<(), MachineError> {
        let owner = |file: &ConfigFile| match file.owner {
            FileOwner::Server => self.owner(),
            FileOwner::Other => Some(Owner::from(&RunAs::another(self.user()))),
            FileOwner::Root => Some(Owner::from(&RunAs::root_with_group_of(self.user()))),
        };
        let there =
            |file: &ConfigFile| FileSpec { path: file.path.clone(), contents: file.contents.clone(), mode: file.mode, owner: owner(file) };
        let specs: Vec<FileSpec> = files.iter().map(there).collect();
        self.agent_container.agent().write(&specs).await?;
        for ConfigFile { path, contents, mode, .. } in files {
            let copy = self.here(path);
            let kept = copy.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| tree::replace(&copy, contents, *mode, None));
            kept.map_err(|error| MachineError::Copy { path: path.clone(), copy, source: Arc::new(error) })?;
        }
        Ok(())
    }

    async fn remove(&self, files: &[PathBuf]) -> Result<(), MachineError> {
        self.agent_container.agent().remove(files).await?;
        for path in files {
            // A copy that stays is only ever looked at by a person.
            let _ = std::fs::remove_file(self.here(path));
        }
        Ok(())
    }

    async fn make_log(&self, log: &Path) -> io::Result<Box<dyn Send + Sync>> {
        let here = self.here(log);
        tree::create_private(&here)?;
        let file = FileSpec { path: log.to_path_buf(), contents: Vec::new(), mode: 0o600, owner: self.owner() };
        let agent = self.agent_container.agent();
        agent.write(&[file]).await.map_err(AgentError::into_io)?;
        self.follow(log.to_path_buf(), here).await.map_err(AgentError::into_io)?;
        // It goes with the container.
        Ok(Box::new(()))
    }

    async fn await_log(&self, log: &Path, limit: Duration) -> Result<(), MachineError> {
        let (there, here) = (self.agent_container.agent().length(log).await?, self.here(log));
        let copied = || {
            let copied = std::fs::metadata(&here).map_or(0, |status| status.len());
            std::future::ready(if copied >= there { Ok(()) } else { Err(format!("{copied} of {there} bytes are there")) })
        };
        Ok(poll::until(&format!("the copy of {}", log.display()), limit, COPY_INTERVAL, copied).await?)
    }

    fn unseen_log(&self) -> Option<LostCause> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = logs.iter().find(|log| log.follower.has_ended())?;
        Some(LostCause::Log { log: ended.there.clone(), copy: ended.here.clone() })
    }

    async fn make_data(&self, major: u16, data: &Path) -> Result<PathBuf, Failure> {
        let has = || self.survey.toolchain.postgres.iter().map(|build| build.version.as_str()).collect::<Vec<_>>().join(", ");
        let missing = || Failure::new(DataError::NotInImage { major, has: has(), release: self.survey.release.clone() }, data);
        let build = self.survey.toolchain.postgres(major).ok_or_else(missing)?;
        // Copies of the configuration go there.
        let here = self.here(data);
        std::fs::create_dir_all(&here).map_err(|error| Failure::new(MachineError::file("make", &here)(error), data))?;
        self.archives.make(self.agent_container.agent(), &self.image, build, self.user(), data).await?;
        Ok(build.bin.clone())
    }

    async fn spawn(&self, spec: ChildSpec) -> Result<Process, MachineError> {
        let output = spec.log.clone();
        Ok(Process::Remote(self.agent_container.agent().spawn(&spec, &output).await?))
    }

    async fn openssl(&self, args: &[String], files: &[PathBuf], limit: Duration) -> Result<CommandRun, CommandError> {
        let none = || SkipReason::EnvironmentUnable(format!("the image of {} has no `openssl` command", self.survey.release));
        let tool = self.survey.toolchain.openssl.as_ref().ok_or_else(|| CommandError::Missing(none()))?;
        let agent = self.agent_container.agent();
        bring(agent, files, self.owner()).await?;
        let spec = ChildSpec { user: self.user().cloned(), ..ChildSpec::new(&tool.path, "") };
        let spec = args.iter().fold(spec, ChildSpec::arg);
        let ran = agent.run(&spec, None, limit).await.map_err(MachineError::from)?;
        Ok(CommandRun::of(command::line(&tool.path, args), ran.status, &ran.stdout, &ran.stderr))
    }

    async fn unix(&self, socket: &Path) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(self.agent_container.agent().dial_unix(socket).await?))
    }

    fn clients_socket(&self, directory: &Path, port: u16) -> Result<Address, MachineError> {
        let name = format!(".s.PGSQL.{port}");
        let here = self.here(directory);
        let mut forward = self.unix_forward.lock().unwrap_or_else(PoisonError::into_inner);
        if forward.is_none() {
            let opened = UnixForward::open(self.agent_container.agent().clone(), &here.join(&name), &directory.join(&name));
            *forward = Some(opened.map_err(|error| MachineError::UnixForward { source: Arc::new(error) })?);
        }
        Ok(Address::Unix { directory: here, port })
    }

    async fn pause(&self, _: &Path, _: u32, _: Duration) -> Result<Paused, MachineError> {
        self.had_fault.store(true, Ordering::Relaxed);
        self.agent_container.pause().await?;
        Ok(Paused::Container)
    }

    async fn resume(&self, _: Paused) -> Result<(), MachineError> {
        Ok(self.agent_container.unpause().await?)
    }

    async fn kill(&self, _: Option<Paused>, _: &Path, child: &mut Process, limit: Duration) -> Result<(), MachineError> {
        self.had_fault.store(true, Ordering::Relaxed);
        self.agent_container.kill().await?;
        // The agent's end is the child's.
        let ended = tokio::time::timeout(limit, child.wait()).await;
        ended.map(drop).map_err(|_| MachineError::Survived { limit })
    }

    async fn start_up(&self) -> Result<(), MachineError> {
        if !self.agent_container.start_up().await? {
            return Ok(());
        }
        if self.purpose == Purpose::Postgres {
            // Process ids of before mean nothing in a container that was started again: CloudNativePG's instance manager removes them too.
            let Directories { data, sockets, .. } = self.directories("");
            let stale = [data.join("postmaster.pid"), sockets.join(format!(".s.PGSQL.{POSTGRES_PORT}.lock"))];
            self.agent_container.agent().remove(&stale).await?;
        }
        let logs = std::mem::take(&mut *self.logs.lock().unwrap_or_else(PoisonError::into_inner));
        for FollowedLog { there, here, follower } in logs {
            // It has written all that it will: its agent is gone.
            drop(follower);
            self.follow(there, here).await?;
        }
        Ok(())
    }

    async fn cut(&self) -> Result<(), MachineError> {
        self.had_fault.store(true, Ordering::Relaxed);
        Ok(self.agent_container.cut().await?)
    }

    async fn mend(&self) -> Result<(), MachineError> {
        Ok(self.agent_container.mend().await?)
    }

    async fn close(&self) {
        if self.purpose == Purpose::Gateways {
            // It is shared, and ends with the run.
            return;
        }
        if self.closed.swap(true, Ordering::Relaxed) {
            // Another may have it by now.
            return;
        }
        let empty =
            !self.had_fault.load(Ordering::Relaxed) && self.agent_container.agent().remove(&[self.root().to_path_buf()]).await.is_ok();
        if empty {
            self.pool.give(&self.image, self.purpose, Arc::clone(&self.agent_container));
        } else {
            self.agent_container.close().await;
        }
    }
}

/// Copies files of this machine to a container, under the same paths and with the same modes.
pub(super) async fn bring(agent: &Agent, files: &[PathBuf], owner: Option<Owner>) -> Result<(), MachineError> {
    if files.is_empty() {
        return Ok(());
    }
    let failed = |path: &Path, error: io::Error| MachineError::Bring { path: path.to_path_buf(), source: Arc::new(error) };
    let parents: BTreeSet<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    let parents = parents.into_iter().map(|path| DirectorySpec { path: path.to_path_buf(), mode: 0o755, owner: None });
    agent.make_directories(&parents.collect::<Vec<_>>()).await?;
    let mut specs = Vec::new();
    for path in files {
        let contents = std::fs::read(path).map_err(|error| failed(path, error))?;
        let mode = std::fs::metadata(path).map_err(|error| failed(path, error))?.permissions().mode() & 0o7777;
        specs.push(FileSpec { path: path.clone(), contents, mode, owner });
    }
    Ok(agent.write(&specs).await?)
}
