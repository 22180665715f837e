//! Connections through the gateway: where they go, and which the server saw.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::connect_context::ConnectContext;
use super::not_run::{CaseError, NotRun};
use environment::{Gateway, GatewayRoute};
use model::case::ConnectPlan;
use model::outcome::SkipReason;
use model::wire::WireTrace;

/// The gateway that a plan goes through, with the way to the context's server; `None` for a plan that goes straight to it.
pub(super) fn way<'a>(plan: &ConnectPlan, connect_context: &ConnectContext<'a>) -> Result<Option<(&'a dyn Gateway, GatewayRoute)>, NotRun> {
    if !plan.gateway {
        return Ok(None);
    }
    let found = connect_context.gateway.and_then(|gateway| Some((gateway, gateway.route(connect_context.service)?)));
    Ok(Some(found.ok_or(CaseError::NoGateway)?))
}

/// Where a relay's connections go: to the gateway or to the server, there to the port that the plan asks for, over IPv6 where their source
/// is such an address.
pub(super) fn upstream(
    plan: &ConnectPlan,
    source: Option<IpAddr>,
    way: Option<&GatewayRoute>,
    connect_context: &ConnectContext<'_>,
) -> Result<SocketAddr, NotRun> {
    let (v4, v6) = match way {
        Some(route) => (route.address, route.address_v6),
        None => {
            let server = connect_context.server;
            // Only where it is asked for: the server reads its configuration to tell.
            let port = if plan.plaintext_port { server.plaintext_port() } else { None };
            let at = |address: SocketAddr| SocketAddr::new(address.ip(), port.unwrap_or(address.port()));
            (at(server.address()), server.address_v6().map(at))
        }
    };
    if source.is_some_and(|source| source.is_ipv6()) {
        return v6.ok_or_else(|| NotRun::Skip(SkipReason::MachineLacks("no IPv6 loopback address (::1)".to_owned())));
    }
    Ok(v4)
}

/// Puts the addresses that the server saw into a trace whose connections were made to the gateway.
pub(super) async fn pass_on(trace: &mut WireTrace, gateway: &dyn Gateway, limit: Duration) {
    let clients: Vec<SocketAddr> = trace.connections.iter().filter_map(|connection| connection.upstream).collect();
    let mut upstreams = gateway.upstreams(&clients, limit).await.into_iter();
    for connection in &mut trace.connections {
        connection.gateway = connection.upstream.take();
        if connection.gateway.is_some() {
            connection.upstream = upstreams.next().flatten();
        }
    }
}
