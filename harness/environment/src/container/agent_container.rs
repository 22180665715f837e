//! A container with its agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::engine::{Attachment, Container, ContainerSpec, EngineError, HARNESS, ImageFound, Scope, TOKEN_FILE};
use crate::error::AgentContainerError;
use agent::{Agent, AgentLease, COMMAND};
use model::network::NetworkName;
use os::poll;

/// The port that every agent listens on in its container.
const AGENT_PORT: u16 = 7431;

/// How long an agent may take to answer: a container starts in half a second.
const AGENT_LIMIT: Duration = Duration::from_secs(20);

/// How often it is tried.
const AGENT_INTERVAL: Duration = Duration::from_millis(10);

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
    ) -> Result<Self, AgentContainerError> {
        let reference = image.reference.clone();
        let listen = format!("0.0.0.0:{AGENT_PORT}");
        let mut spec = ContainerSpec::new(name, image, [HARNESS, COMMAND, "--listen", &listen, "--token-file", TOKEN_FILE]);
        spec.networks = networks.to_vec();
        spec.publish = std::iter::once(AGENT_PORT).chain(publish.iter().copied()).collect();
        let container = scope.start(spec).await.map_err(about)?;
        let address = container.published(AGENT_PORT).await?;
        let agent = Agent::new(address, token);
        let lease = match hold(&container, &agent).await {
            Ok(lease) => lease,
            Err(timeout) => {
                let said = container.logs().await;
                // What can't be removed now is removed at the run's end.
                let _ = container.remove().await;
                return Err(AgentContainerError::NoAnswer { name: name.to_owned(), image: reference, source: Arc::new(timeout), said });
            }
        };
        let networks = networks.iter().map(|attachment| attachment.network);
        let addresses = networks.filter_map(|network| Some((network, container.address_in(network)?))).collect();
        Ok(Self { container, agent, addresses, lease: Mutex::new(Some(lease)) })
    }

    /// The agent in it, for whatever is to be done there.
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
    pub(super) async fn pause(&self) -> Result<(), AgentContainerError> {
        Ok(self.container.pause().await?)
    }

    /// Lets everything in it go on.
    pub(super) async fn unpause(&self) -> Result<(), AgentContainerError> {
        Ok(self.container.unpause().await?)
    }

    /// Kills everything in it, also where it is paused.
    pub(super) async fn kill(&self) -> Result<(), AgentContainerError> {
        Ok(self.container.kill().await?)
    }

    /// Starts it, if it does not run; whether it had to.
    pub(super) async fn start_up(&self) -> Result<bool, AgentContainerError> {
        let mut lease = self.lease.lock().await;
        if self.container.is_running().await? {
            return Ok(false);
        }
        self.container.start_again().await?;
        // The engine chose another port for it.
        self.agent.moved_to(self.container.published(AGENT_PORT).await?);
        *lease = Some(hold(&self.container, &self.agent).await.map_err(|timeout| AgentContainerError::NoAnswerAgain(Arc::new(timeout)))?);
        Ok(true)
    }

    /// Takes it from its networks.
    pub(super) async fn cut(&self) -> Result<(), AgentContainerError> {
        Ok(self.container.cut().await?)
    }

    /// Gives it back to them, with the same addresses.
    pub(super) async fn mend(&self) -> Result<(), AgentContainerError> {
        Ok(self.container.mend().await?)
    }

    /// Ends it. What can't be removed is removed at the run's end, or told there.
    pub(super) async fn close(&self) {
        if self.lease.lock().await.take().is_some() {
            let _ = self.container.remove().await;
        }
    }
}

/// Why a container did not start. Where its output names the harness's own binary, the binary could not be run there.
fn about(error: EngineError) -> AgentContainerError {
    match &error {
        EngineError::Start { log, .. } if log.contains(HARNESS) => AgentContainerError::CannotRun(Arc::new(error)),
        _ => error.into(),
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
