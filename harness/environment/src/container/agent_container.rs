//! A container with its agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::Mutex;

use super::engine::{Attachment, Container, ContainerSpec, EngineError, HARNESS, ImageFound, Scope, TOKEN_FILE};
use agent::{Agent, AgentLease, COMMAND};
use model::network::NetworkName;
use os::poll;

/// The port that every agent listens on in its container.
const AGENT_PORT: u16 = 7431;

/// How long an agent may take to answer: a container starts in half a second.
const AGENT_LIMIT: Duration = Duration::from_secs(20);

/// How often it is tried.
const AGENT_INTERVAL: Duration = Duration::from_millis(10);

/// What the harness's own binary needs of an image.
const NEEDS: &str = "the image must be of Linux with a glibc that is no older than this machine's";

/// A container and the agent in it, which lives as long as this does.
pub(super) struct AgentContainer {
    container: Container,
    agent: Agent,
    addresses: BTreeMap<NetworkName, IpAddr>,
    /// `None` once it is closed.
    lease: Mutex<Option<AgentLease>>,
}

impl AgentContainer {
    /// Starts a container whose agent answers. `publish`: ports beside the agent's.
    pub(super) async fn start(
        scope: &Scope,
        token: &str,
        name: &str,
        image: ImageFound,
        networks: &[Attachment],
        publish: &[u16],
    ) -> Result<Self, String> {
        let reference = image.reference.clone();
        let listen = format!("0.0.0.0:{AGENT_PORT}");
        let mut spec = ContainerSpec::new(name, image, [HARNESS, COMMAND, "--listen", &listen, "--token-file", TOKEN_FILE]);
        spec.networks = networks.to_vec();
        spec.publish = std::iter::once(AGENT_PORT).chain(publish.iter().copied()).collect();
        let container = scope.start(spec).await.map_err(|error| about(&error))?;
        let address = container.published(AGENT_PORT).await.map_err(|error| error.to_string())?;
        let agent = Agent::new(address, token);
        let lease = match hold(&container, &agent).await {
            Ok(lease) => lease,
            Err(timeout) => {
                let said = container.logs().await;
                // What can't be removed now is removed at the run's end.
                let _ = container.remove().await;
                return Err(format!(
                    "the harness's own binary does not answer in the container {name} ({reference}): {timeout}; it says: {said}; {NEEDS}"
                ));
            }
        };
        let networks = networks.iter().map(|attachment| attachment.network);
        let addresses = networks.filter_map(|network| Some((network, container.address_in(network)?))).collect();
        Ok(Self { container, agent, addresses, lease: Mutex::new(Some(lease)) })
    }

    /// The agent.
    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Its address in each of its networks.
    pub(super) fn addresses(&self) -> &BTreeMap<NetworkName, IpAddr> {
        &self.addresses
    }

    /// Its address in one of its networks.
    pub(super) fn address_in(&self, network: NetworkName) -> Option<IpAddr> {
        self.addresses.get(&network).copied()
    }

    /// Freezes everything in it.
    pub(super) async fn pause(&self) -> Result<(), String> {
        self.container.pause().await.map_err(|error| error.to_string())
    }

    /// Lets everything in it go on.
    pub(super) async fn unpause(&self) -> Result<(), String> {
        self.container.unpause().await.map_err(|error| error.to_string())
    }

    /// Kills everything in it, also where it is paused.
    pub(super) async fn kill(&self) -> Result<(), String> {
        self.container.kill().await.map_err(|error| error.to_string())
    }

    /// Starts it, if it does not run; whether it had to.
    pub(super) async fn start_up(&self) -> Result<bool, String> {
        let mut lease = self.lease.lock().await;
        if self.container.is_running().await.map_err(|error| error.to_string())? {
            return Ok(false);
        }
        self.container.start_again().await.map_err(|error| error.to_string())?;
        // The engine chose another port for it.
        self.agent.moved_to(self.container.published(AGENT_PORT).await.map_err(|error| error.to_string())?);
        *lease = Some(hold(&self.container, &self.agent).await.map_err(|timeout| timeout.to_string())?);
        Ok(true)
    }

    /// Takes it from its networks.
    pub(super) async fn cut(&self) -> Result<(), String> {
        self.container.cut().await.map_err(|error| error.to_string())
    }

    /// Gives it back to them, with the same addresses.
    pub(super) async fn mend(&self) -> Result<(), String> {
        self.container.mend().await.map_err(|error| error.to_string())
    }

    /// Ends it. What can't be removed is removed at the run's end, or told there.
    pub(super) async fn close(&self) {
        if self.lease.lock().await.take().is_some() {
            let _ = self.container.remove().await;
        }
    }
}

/// Why a container did not start. Where its output names the harness's own binary, the binary could not be run there.
fn about(error: &EngineError) -> String {
    match error {
        EngineError::Start { log, .. } if log.contains(HARNESS) => format!("{error}; {NEEDS}"),
        error => error.to_string(),
    }
}

/// Waits for the agent's answer. The engine takes connections before the agent does, and ends them.
async fn hold(container: &Container, agent: &Agent) -> Result<AgentLease, poll::PollTimeout> {
    let held = || async {
        match agent.hold().await {
            Ok(lease) => Ok(lease),
            Err(error) => match container.is_running().await {
                Ok(false) => Err(format!("{error}; it does not run")),
                _ => Err(error.to_string()),
            },
        }
    };
    poll::until("the agent's answer", AGENT_LIMIT, AGENT_INTERVAL, held).await
}
