//! The relay between a client and the server, where the client runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::not_run::{CaseError, NotRun};
use agent::{ClientContainer, RelaySpec, RemoteRelay};
use model::outcome::SkipReason;
use model::server::Service;
use model::wire::WireTrace;
use os::dial::Dialer;
use wire::{Relay, RelayOptions};

/// A relay: beside its client, so that nothing comes between the two.
pub(super) enum CaseRelay {
    /// The client runs on this machine.
    OnHost(Relay),
    /// The client runs in a container.
    InContainer(RemoteRelay),
}

impl CaseRelay {
    /// Opens a relay for a client that runs there, or here.
    pub(super) async fn open(
        client_container: Option<&ClientContainer>,
        dialer: Arc<dyn Dialer>,
        source: Option<IpAddr>,
        upstream: SocketAddr,
        service: Service,
    ) -> Result<Self, NotRun> {
        let listen = if upstream.is_ipv6() { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
        let Some(client_container) = client_container else {
            let options = RelayOptions { dialer, upstream, source, listen, service, faults: Vec::new() };
            return Ok(Self::OnHost(Relay::open(options).await.map_err(CaseError::OpenRelay)?));
        };
        let nowhere = |_| {
            let from = source.map_or_else(|| "any address".to_owned(), |source| source.to_string());
            NotRun::Skip(SkipReason::EnvironmentUnable(format!("the clients' container can't connect to {upstream} from {from}")))
        };
        let upstream = dialer.address_at_origin(upstream, source).map_err(nowhere)?;
        let relay = client_container.agent().open_relay(RelaySpec { upstream, source, listen, service }).await;
        Ok(Self::InContainer(relay.map_err(CaseError::RemoteRelay)?))
    }

    /// Where the client connects.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::OnHost(relay) => relay.address(),
            Self::InContainer(relay) => relay.address(),
        }
    }

    /// The trace, as soon as all connections have ended and at `limit` at the latest.
    pub(super) async fn finish(self, limit: Duration) -> Result<WireTrace, NotRun> {
        match self {
            Self::OnHost(relay) => Ok(relay.finish(limit).await),
            Self::InContainer(relay) => Ok(relay.finish(limit).await.map_err(CaseError::RemoteRelay)?),
        }
    }
}
