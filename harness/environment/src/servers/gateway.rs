//! A gateway in front of servers: HAProxy, which passes TLS through by the host name in the ClientHello.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::configure::ConfigFile;
use super::evidence;
use super::instance::{PORT_TRIES, PortTries, STOP_LIMIT, StartError, ended};
use super::machine::{Directories, Machine, Paused, Process, Role};
use super::shared::Shared;
use super::written::Written;
use crate::error::{EnvironmentError, Failure, LostCause, MachineError, StartCause};
use crate::{EvidenceFile, Gateway, GatewayRoute};
use deployment::gateway::TlsRoute;
use deployment::haproxy::{self, HaproxyListener};
use model::observation::LogLine;
use model::outcome::SkipReason;
use model::server::{ServerKey, Service};
use os::child::{ChildSpec, tail_since};
use os::dial::Dialer;
use os::poll;
use os::toolchain::Tool;
use serverlog::{HaproxyLog, LogIndex, Tailer};

/// Its configuration file.
const CONFIGURATION: &str = "haproxy.cfg";

/// How often it is tried whether it listens: a start takes some tens of milliseconds.
const START_INTERVAL: Duration = Duration::from_millis(3);

/// Why there can't be a gateway in front of such a server; `None` if there can.
pub(super) fn unable(shared: &Shared, key: ServerKey) -> Option<SkipReason> {
    if let Some(missing) = shared.machines.missing(Role::Gateway) {
        return Some(SkipReason::ServerMissing(missing.to_string()));
    }
    let none = || SkipReason::EnvironmentUnable(format!("the manifests have no TLSRoute that leads to {key}"));
    shared.options.configurator.route(key.service).is_none().then(none)
}

/// The gateways in front of the servers that many cases share.
#[derive(Default)]
pub(super) struct Gateways {
    /// Held while one starts: each takes some tens of milliseconds.
    by_key: Mutex<BTreeMap<ServerKey, Result<Arc<HaproxyGateway>, EnvironmentError>>>,
}

impl Gateways {
    /// The one in front of the key's server at this address: started at the first call, the same one afterwards.
    pub(super) async fn of(
        &self,
        shared: &Arc<Shared>,
        key: ServerKey,
        address: SocketAddr,
    ) -> Result<Arc<HaproxyGateway>, EnvironmentError> {
        let mut by_key = self.by_key.lock().await;
        let started = match by_key.get(&key) {
            Some(started) => started.clone(),
            None => {
                let backend = Backend::new(shared.options.configurator.route(key.service).as_ref(), key, address)?;
                let started = HaproxyGateway::start(Arc::clone(shared), &format!("gateway-{key}"), vec![backend]).await.map(Arc::new);
                by_key.insert(key, started.clone());
                started
            }
        };
        let gateway = started?;
        match gateway.lost().await {
            Some(lost) => Err(lost),
            None => Ok(gateway),
        }
    }

    /// Stops all of them.
    pub(super) async fn stop(&self) {
        for gateway in std::mem::take(&mut *self.by_key.lock().await).into_values().flatten() {
            gateway.close().await;
        }
    }
}

/// A server behind the gateway.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// The way to it.
    pub(crate) route: TlsRoute,
    /// Where the gateway finds it.
    pub(crate) address: SocketAddr,
}

impl Backend {
    /// The key's server, if there is a route to it.
    pub(crate) fn new(route: Option<&TlsRoute>, key: ServerKey, address: SocketAddr) -> Result<Self, EnvironmentError> {
        Ok(Self { route: route.ok_or(EnvironmentError::NoRoute(key))?.clone(), address })
    }
}

/// A listener of a gateway takes no connection.
#[derive(Debug, thiserror::Error)]
#[error("{address}: {source}")]
struct NotListening {
    address: SocketAddr,
    source: io::Error,
}

/// A gateway, running or stopped.
pub(crate) struct HaproxyGateway {
    shared: Arc<Shared>,
    program: Tool,
    name: String,
    pub(super) machine: Arc<dyn Machine>,
    pub(super) directory: PathBuf,
    /// Its output, where its log goes.
    log: PathBuf,
    /// The listeners with their ports: the same across restarts.
    listeners: Vec<(Backend, u16)>,
    listen: Vec<IpAddr>,
    index: Arc<LogIndex>,
    _tailer: Tailer,
    /// While it is paused. Before the child, which can't end while it is.
    pub(super) paused: Mutex<Option<Paused>>,
    /// `None` while it is stopped.
    pub(super) child: Mutex<Option<Process>>,
}

impl HaproxyGateway {
    /// Starts a gateway with one listener a server. `name` names it in errors and is its folder in the run directory.
    pub(crate) async fn start(shared: Arc<Shared>, name: &str, backends: Vec<Backend>) -> Result<Self, EnvironmentError> {
        let started = async {
            let machine = shared.machines.machine(Role::Gateway, name).await?;
            let Directories { root: directory, logs, .. } = machine.directories(name);
            let log = machine.here(&logs).join("haproxy.log");
            let missing = || Failure::new(StartCause::NoProgram("haproxy"), &log);
            let program = machine.haproxy().cloned().ok_or_else(missing)?;
            let failed = |error: io::Error| Failure::new(MachineError::file("make", &directory)(error), &log);
            machine.make_directory(&directory, 0o755, false).await.map_err(failed)?;
            machine.make_directory(&logs, 0o755, false).await.map_err(failed)?;
            // It exists before the gateway does, so that no line of it is missed.
            os::tree::create_private(&log).map_err(failed)?;
            let index = Arc::new(LogIndex::default());
            let tailer = Tailer::follow(&log, HaproxyLog::default(), Arc::clone(&index))
                .map_err(|error| Failure::new(StartCause::Log(Arc::new(error)), &log))?;
            let mut gateway = Self {
                program,
                name: name.to_owned(),
                directory: directory.clone(),
                log: log.clone(),
                listeners: Vec::new(),
                listen: machine.listen(),
                machine: Arc::clone(&machine),
                index,
                _tailer: tailer,
                paused: Mutex::new(None),
                child: Mutex::new(None),
                shared: Arc::clone(&shared),
            };
            let mut written = Written::default();
            let mut tries = PortTries::default();
            loop {
                gateway.take_ports(&backends)?;
                written.bring_to(vec![gateway.configuration_file()], machine.as_ref()).await.map_err(|error| Failure::new(error, &log))?;
                if let child @ Some(_) = tries.result(gateway.start_once().await)? {
                    gateway.child = Mutex::new(child);
                    return Ok(gateway);
                }
            }
        };
        started.await.map_err(|failure: Failure| failure.at_start_of(&name))
    }

    fn take_ports(&mut self, backends: &[Backend]) -> Result<(), Failure> {
        self.listeners.clear();
        for backend in backends {
            let taken = |port| self.listeners.iter().any(|(_, other)| *other == port);
            let mut port = None;
            for _ in 0..PORT_TRIES {
                let free = self
                    .machine
                    .free_port(backend.route.service)
                    .map_err(|error| Failure::new(StartCause::NoPort(Arc::new(error)), &self.log))?;
                if !taken(free) {
                    port = Some(free);
                    break;
                }
            }
            let port = port.ok_or_else(|| Failure::new(StartCause::TooFewPorts, &self.log))?;
            self.listeners.push((backend.clone(), port));
        }
        Ok(())
    }

    fn configuration_file(&self) -> ConfigFile {
        let listeners: Vec<_> = self
            .listeners
            .iter()
            .map(|(backend, port)| HaproxyListener { route: &backend.route, listen: &self.listen, port: *port, upstream: backend.address })
            .collect();
        let contents = haproxy::render(&listeners, self.machine.gateway_address());
        ConfigFile::of_server(self.directory.join(CONFIGURATION), contents, 0o644)
    }

    async fn start_once(&self) -> Result<Process, StartError> {
        let before = std::fs::metadata(&self.log).map_or(0, |status| status.len());
        // In the foreground, one process.
        let spec = ChildSpec {
            user: self.machine.user().cloned(),
            directory: Some(self.directory.clone()),
            ..ChildSpec::new(self.program.path.clone(), &self.log)
        };
        let spec = spec.arg("-db").arg("-f").arg(self.directory.join(CONFIGURATION));
        let command = spec.command_line();
        let mut child = self.machine.spawn(spec).await.map_err(|error| Failure::new(error, &self.log))?;
        let limit = self.shared.options.start_limit;
        let listens = async || self.listens().await.map_err(|error| error.to_string());
        let outcome = tokio::select! {
            biased;
            status = child.wait() => Ok(Some(status)),
            outcome = poll::until("the gateway to listen", limit, START_INTERVAL, listens) => outcome.map(|()| None),
        };
        let said = || tail_since(&self.log, before, 8);
        match outcome {
            Ok(None) => Ok(child),
            Ok(Some(status)) => {
                let said = said();
                // "cannot bind socket (Address already in use) for [127.0.0.1:10000]"
                let taken = said.contains("Address already in use");
                let failure = Failure::new(ended(command, status, said), &self.log);
                Err(if taken { StartError::PortTaken(failure) } else { StartError::Failed(failure) })
            }
            Err(timeout) => {
                child.stop(STOP_LIMIT).await;
                Err(Failure::new(StartCause::NotListening { command, source: Arc::new(timeout), said: said() }, &self.log).into())
            }
        }
    }

    /// A fault that could not be made or ended.
    pub(super) fn fault(&self, action: &'static str, source: MachineError) -> EnvironmentError {
        EnvironmentError::Fault { what: "the gateway".to_owned(), action, source }
    }

    /// How long a start, or what takes no longer, may take.
    pub(super) fn start_limit(&self) -> Duration {
        self.shared.options.start_limit
    }

    /// Whether every listener takes connections; `Err` names the first that does not.
    async fn listens(&self) -> Result<(), NotListening> {
        for (_, port) in &self.listeners {
            for address in [Some(self.machine.address(*port)), self.machine.address_v6(*port)].into_iter().flatten() {
                self.machine.dialer().dial(address, None).await.map_err(|source| NotListening { address, source })?;
            }
        }
        Ok(())
    }

    /// Starts it again after [`HaproxyGateway::stop`], on the same ports.
    pub(crate) async fn start_again(&self) -> Result<(), EnvironmentError> {
        let mut child = self.child.lock().await;
        if child.is_none() {
            self.machine.start_up().await.map_err(|source| self.fault("started", source))?;
            *child = Some(self.start_once().await.map_err(|error| error.into_failure().at_start_of(&self.name))?);
        }
        Ok(())
    }

    /// Stops it: the connections through it end.
    pub(crate) async fn stop(&self) {
        if let Some(paused) = self.paused.lock().await.take() {
            // One that can't go on is killed below.
            let _ = self.machine.resume(paused).await;
        }
        if let Some(mut child) = self.child.lock().await.take() {
            child.stop(STOP_LIMIT).await;
        }
    }

    /// Stops it for good.
    pub(super) async fn close(&self) {
        self.stop().await;
        self.machine.close().await;
    }

    /// The same without waiting for others. Blocks for some milliseconds.
    pub(super) fn abandon(&self) {
        if let Ok(mut paused) = self.paused.try_lock() {
            drop(paused.take());
        }
        if let Ok(mut child) = self.child.try_lock() {
            drop(child.take());
        }
    }
}

#[async_trait]
impl Gateway for HaproxyGateway {
    fn route(&self, service: Service) -> Option<GatewayRoute> {
        let (backend, port) = self.listeners.iter().find(|(backend, _)| backend.route.service == service)?;
        let (address, address_v6) = (self.machine.address(*port), self.machine.address_v6(*port));
        Some(GatewayRoute { address, address_v6, host: backend.route.hosts.first()?.clone() })
    }

    fn dialer(&self) -> Arc<dyn Dialer> {
        self.machine.dialer()
    }

    async fn upstreams(&self, clients: &[SocketAddr], limit: Duration) -> Vec<Option<SocketAddr>> {
        let of = |lines: &[LogLine], client: &SocketAddr| lines.iter().rev().find(|line| line.peer.as_ref() == Some(client)).cloned();
        let all = |lines: &[LogLine]| clients.iter().all(|client| of(lines, client).is_some());
        let lines = self.index.lines_of(clients, &all, limit).await;
        clients.iter().map(|client| of(&lines, client).and_then(|line| HaproxyLog::upstream(&line))).collect()
    }

    fn configuration(&self) -> Option<EvidenceFile> {
        evidence::of_file(self.machine.as_ref(), &self.directory.join(CONFIGURATION))
    }

    fn log_path(&self) -> PathBuf {
        self.log.clone()
    }

    async fn lost(&self) -> Option<EnvironmentError> {
        let status = self.child.lock().await.as_mut().and_then(Process::try_wait)?;
        let source = Box::new(LostCause::Ended { status, said: tail_since(&self.log, 0, 8) });
        Some(EnvironmentError::Lost { server: self.name.clone(), source, log: self.log.clone() })
    }
}
