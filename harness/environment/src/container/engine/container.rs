//! A container that was started.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bollard::models::{ContainerInspectResponse, EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest};
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder, LogsOptionsBuilder, StartContainerOptions};
use futures_util::TryStreamExt as _;

use super::error::EngineError;
use super::limits;
use super::removal::remove_container;
use super::shared::Shared;
use model::network::NetworkName;
use os::poll::until;

/// Lines of output that an error shows.
const TAIL: &str = "40";

/// A container of the run. Dropping it removes it in the background, where a runtime is there to do it; what is left is removed by
/// [`super::Scope::close`].
pub struct Container {
    shared: Arc<Shared>,
    name: String,
    full: String,
    id: String,
    places: Vec<Place>,
    aliases: Vec<String>,
    /// Whether it is cut off. Held while that changes.
    cut: tokio::sync::Mutex<bool>,
    removed: AtomicBool,
}

/// Where a container is on a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) network: NetworkName,
    pub(super) host: u8,
    pub(super) address: Ipv4Addr,
}

impl Container {
    pub(super) fn new(shared: Arc<Shared>, name: String, places: Vec<Place>, aliases: Vec<String>) -> Self {
        let full = shared.name_of(&name);
        let cut = tokio::sync::Mutex::new(false);
        Self { shared, name, full, id: String::new(), places, aliases, cut, removed: AtomicBool::new(false) }
    }

    pub(super) fn set_id(&mut self, id: String) {
        self.id = id;
    }

    /// Its name among the engine's containers: with the run's id.
    #[must_use]
    pub fn engine_name(&self) -> &str {
        &self.full
    }

    /// Its name in [`super::ContainerSpec`], without the run's id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The engine's id of it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its address on a network, also while it is cut off or stopped; `None` if it is not on it. It stays the same.
    #[must_use]
    pub fn address_in(&self, network: NetworkName) -> Option<IpAddr> {
        self.places.iter().find(|place| place.network == network).map(|place| IpAddr::V4(place.address))
    }

    /// Where a published port of it is to be reached from this machine. It changes with every start.
    ///
    /// # Errors
    /// [`EngineError`] if the port is not published, or if the container does not run.
    pub async fn published(&self, port: u16) -> Result<SocketAddr, EngineError> {
        let inspected = self.inspect().await?;
        let ports = inspected.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let mut bindings = ports.get(&format!("{port}/tcp")).into_iter().flatten().flatten();
        let found = bindings.find_map(|binding| {
            let address: IpAddr = binding.host_ip.as_deref()?.parse().ok()?;
            Some(SocketAddr::new(address, binding.host_port.as_deref()?.parse().ok()?))
        });
        found.ok_or_else(|| EngineError::Refused {
            what: format!("tell where port {port} of the container {} is published", self.full),
            reason: format!("the ports of the container are {:?}; it runs: {:?}", ports, inspected.state.and_then(|state| state.running)),
            status: None,
        })
    }

    /// Freezes all its processes.
    ///
    /// # Errors
    /// [`EngineError`]. The freezer of cgroup v1 gives up where processes come and go faster than it freezes them (`unable to freeze`): that
    /// is tried again.
    pub async fn pause(&self) -> Result<(), EngineError> {
        let engine = &self.shared.engine;
        let begun = Instant::now();
        loop {
            let what = || format!("pause the container {}", self.full);
            match engine.ask(limits::CHANGE, what, engine.docker().pause_container(&self.full)).await {
                Err(error) if begun.elapsed() < limits::CHANGE && error.to_string().contains("unable to freeze") => {}
                result => return result,
            }
        }
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn unpause(&self) -> Result<(), EngineError> {
        let engine = &self.shared.engine;
        engine.ask(limits::CHANGE, || format!("unpause the container {}", self.full), engine.docker().unpause_container(&self.full)).await
    }

    /// Kills all its processes with SIGKILL; it counts as stopped when this returns. One that does not run is fine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn kill(&self) -> Result<(), EngineError> {
        let engine = &self.shared.engine;
        let what = || format!("kill the container {}", self.full);
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        match engine.ask(limits::REMOVE, what, engine.docker().kill_container(&self.full, Some(options))).await {
            Err(error) if error.is_conflict() => {}
            result => result?,
        }
        let stopped = until("the end of the container", limits::REMOVE, limits::INTERVAL, || async {
            match self.is_running().await {
                Ok(false) => Ok(()),
                Ok(true) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        stopped.await.map_err(|_| EngineError::Slow { what: what(), limit: limits::REMOVE })
    }

    /// Starts it again after its end: the same command, files and addresses, other published ports. File systems in memory are empty.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn start_again(&self) -> Result<(), EngineError> {
        let engine = &self.shared.engine;
        let start = engine.docker().start_container(&self.full, None::<StartContainerOptions>);
        engine.ask(limits::START, || format!("start the container {} again", self.full), start).await
    }

    /// Cuts it off from all networks but the one over which its ports are published: packets from and to its other addresses are lost, and
    /// containers no longer find its names. Cut off already is fine.
    ///
    /// # Errors
    /// [`EngineError`]; [`Container::mend`] restores it also then.
    pub async fn cut(&self) -> Result<(), EngineError> {
        let mut cut = self.cut.lock().await;
        for place in &self.places {
            let network = &self.shared.network(place.network)?.name;
            let request = NetworkDisconnectRequest { container: self.full.clone(), force: Some(false) };
            let engine = &self.shared.engine;
            let what = || format!("cut {} off from {network}", self.full);
            match engine.ask(limits::CHANGE, what, engine.docker().disconnect_network(network, request)).await {
                Err(error) if *cut && error.is_not_connected() => {}
                result => result?,
            }
            *cut = true;
        }
        Ok(())
    }

    /// Puts it back on all its networks, at the same addresses. Not cut off is fine.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn mend(&self) -> Result<(), EngineError> {
        let mut cut = self.cut.lock().await;
        if *cut {
            self.connect_all().await?;
            *cut = false;
        }
        Ok(())
    }

    /// Puts it on all its networks; on one that it is on already, nothing happens.
    pub(super) async fn connect_all(&self) -> Result<(), EngineError> {
        // One after the other, so that the interfaces are in this order.
        for place in &self.places {
            let network = &self.shared.network(place.network)?.name;
            let engine = &self.shared.engine;
            let what = || format!("connect {} to {network} at {}", self.full, place.address);
            let request = endpoint(&self.full, place.address, &self.aliases);
            match engine.ask(limits::CHANGE, what, engine.docker().connect_network(network, request)).await {
                Err(error) if error.is_connected_already() => {}
                result => result?,
            }
        }
        Ok(())
    }

    /// Whether its process lives; also true while it is paused.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not say; a container that is gone does not run.
    pub async fn is_running(&self) -> Result<bool, EngineError> {
        match self.inspect().await {
            Ok(inspected) => Ok(inspected.state.and_then(|state| state.running).unwrap_or(false)),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How its process ended: the exit code, 128 and the signal's number after a signal, 127 where the program was not found; `None` while it
    /// lives.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not say.
    pub async fn exit_code(&self) -> Result<Option<i64>, EngineError> {
        let state = self.inspect().await?.state.unwrap_or_default();
        Ok(if state.running == Some(true) { None } else { Some(state.exit_code.unwrap_or(-1)) })
    }

    /// The end of its output, for error messages.
    pub async fn logs(&self) -> String {
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(TAIL).build();
        let engine = &self.shared.engine;
        let output = engine.docker().logs(&self.full, Some(options)).map_ok(|part| part.into_bytes().to_vec()).try_concat();
        match engine.ask(limits::LOOK, || format!("give the output of {}", self.full), output).await {
            Ok(bytes) if bytes.is_empty() => "(none)".to_owned(),
            Ok(bytes) => String::from_utf8_lossy(&bytes).trim_end().to_owned(),
            Err(error) => format!("({error})"),
        }
    }

    /// Kills and removes it. Removed already is fine.
    ///
    /// # Errors
    /// [`EngineError`]; [`super::Scope::close`] tries again.
    pub async fn remove(&self) -> Result<(), EngineError> {
        remove_container(&self.shared.engine, &self.full).await?;
        self.give_back();
        Ok(())
    }

    /// Gives name and addresses back, once.
    fn give_back(&self) {
        if !self.removed.swap(true, Ordering::SeqCst) {
            give_back(&self.shared, &self.name, &self.places);
        }
    }

    async fn inspect(&self) -> Result<ContainerInspectResponse, EngineError> {
        let engine = &self.shared.engine;
        let inspect = engine.docker().inspect_container(&self.full, None::<InspectContainerOptions>);
        engine.ask(limits::LOOK, || format!("look at the container {}", self.full), inspect).await
    }
}

/// How a container is on a network: at this address, under these names.
fn endpoint(container: &str, address: Ipv4Addr, aliases: &[String]) -> NetworkConnectRequest {
    NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: Some(EndpointSettings {
            ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(address.to_string()), ..EndpointIpamConfig::default() }),
            aliases: Some(aliases.to_vec()),
            ..EndpointSettings::default()
        }),
    }
}

fn give_back(shared: &Shared, name: &str, places: &[Place]) {
    let mut reservations = shared.reservations();
    reservations.names.remove(name);
    for place in places {
        reservations.addresses.entry(place.network).or_default().give_back(place.host);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if *self.removed.get_mut() {
            return;
        }
        // The engine takes its time, and a destructor can't wait.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (shared, full, name) = (Arc::clone(&self.shared), self.full.clone(), std::mem::take(&mut self.name));
            let places = std::mem::take(&mut self.places);
            runtime.spawn(async move {
                // Name and addresses are free only once it is gone.
                if remove_container(&shared.engine, &full).await.is_ok() {
                    give_back(&shared, &name, &places);
                }
            });
        }
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the container {}", self.full)
    }
}
