//! An installation: the deployment for one timeline alone, which changes while clients run; and what can stand around a server, a gateway
//! and a replica.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::error::EnvironmentError;
use super::server::{EvidenceFile, Server};
use model::change::{Change, Target};
use model::connect::ClientFiles;
use model::server::{ServerConfig, ServerKey, Service};
use os::dial::Dialer;

/// What an installation is made of.
#[derive(Debug, Clone)]
pub struct InstallOptions {
    /// Service, version and deployment of its server: those that the scenario asks for.
    pub key: ServerKey,
    /// How it is configured at the start. Credentials by name have no meaning here: `certificate`, `client_ca` and `crl` must be `None`.
    pub config: ServerConfig,
    /// What it has beside the server: [`Target::Replica`], [`Target::Gateway`], [`Target::Site`].
    pub with: Vec<Target>,
    /// What happens before its servers start.
    pub setup: Vec<Change<String>>,
    /// How long all of that may take: it can wait for a certificate's end.
    pub setup_limit: Duration,
}

/// How a change went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// What the target said against it, where it did not take it: a reload that keeps the old context, a start that fails. That is an
    /// observation, not an error of the environment.
    pub objection: Option<String>,
}

/// The deployment for one timeline alone: a CA, Secrets, mounts and servers of its own, which change. Dropping it stops what runs
/// and removes its files.
#[async_trait]
pub trait Installation: Send + Sync {
    /// The server behind [`Target::Postgres`], [`Target::Replica`] or [`Target::Redis`]; `None` where it has none. The same server
    /// across restarts, with the same address. [`Server::apply`] gives an error: it is changed by [`Installation::apply`] only.
    fn server(&self, target: Target) -> Option<Arc<dyn Server>>;

    /// The gateway, where it has one.
    fn gateway(&self) -> Option<Arc<dyn Gateway>>;

    /// Streaming replication, where it has a replica.
    fn replication(&self) -> Option<Arc<dyn Replication>>;

    /// The files that clients mount: [`Target::Client`] or [`Target::Site`]. Paths stay the same; their content changes at
    /// [`Change::Sync`], for all files at once.
    fn mount(&self, target: Target) -> Option<ClientFiles>;

    /// SHA-256 of a Certificate's present certificate, or of `NAME@1`, ...: lower-case hex; `None` where there is no such.
    fn certificate_sha256(&self, certificate: &str) -> Option<String>;

    /// Makes one change and returns when it is done. Only one at a time.
    ///
    /// # Errors
    /// [`EnvironmentError`] if it could not be made: an unknown name, a server that hangs. A target that refuses it is no error.
    async fn apply(&self, change: &Change<String>) -> Result<Applied, EnvironmentError>;

    /// See [`Server::lost`]: the first of its servers, or its gateway, that is.
    async fn lost(&self) -> Option<EnvironmentError> {
        for target in [Target::Postgres, Target::Replica, Target::Redis] {
            if let Some(server) = self.server(target)
                && let Some(lost) = server.lost().await
            {
                return Some(lost);
            }
        }
        match self.gateway() {
            Some(gateway) => gateway.lost().await,
            None => None,
        }
    }

    /// Stops everything and removes its files, logs too: who wants evidence copies it before.
    async fn close(&self);
}

/// A way through a gateway to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayRoute {
    /// Where the gateway listens for it.
    pub address: SocketAddr,
    /// Its IPv6 address, where it listens on one.
    pub address_v6: Option<SocketAddr>,
    /// The host name that leads to the server.
    pub host: String,
}

/// A gateway that passes TLS through to PostgreSQL and Redis, by the host name in the ClientHello.
#[async_trait]
pub trait Gateway: Send + Sync {
    /// The way through it to a service; `None` where no server of that service is behind it.
    fn route(&self, service: Service) -> Option<GatewayRoute>;

    /// The way to its ports.
    fn dialer(&self) -> Arc<dyn Dialer>;

    /// The addresses that the server saw for connections that came to the gateway from `clients`, in that order; `None` for one that was
    /// not passed on. Waits for the gateway's log, which tells as soon as one is passed on or refused, at most for `limit`.
    async fn upstreams(&self, clients: &[SocketAddr], limit: Duration) -> Vec<Option<SocketAddr>>;

    /// Its configuration, for evidence.
    fn configuration(&self) -> Option<EvidenceFile>;

    /// Its log, for evidence.
    fn log_path(&self) -> PathBuf;

    /// Why it can't be used any more, as [`Server::lost`] tells it of a server.
    async fn lost(&self) -> Option<EnvironmentError>;
}

/// What streaming replication is found to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicationState {
    /// A change of the primary arrived: from its commit to its replay at the replica.
    Arrived(Duration),
    /// It did not arrive in time, and the replica's log says why it has no connection: the words of its libpq.
    Refused(String),
    /// It did not arrive in time, and nothing says why.
    Silent,
}

/// Streaming replication between two servers.
#[async_trait]
pub trait Replication: Send + Sync {
    /// Makes a change on the primary and waits until the replica has it, at most for `limit`; where it has not, some time longer for what
    /// the replica's log says of it. While one of the servers is away no change arrives.
    ///
    /// # Errors
    /// [`EnvironmentError`] where a server that is there can't be asked.
    async fn probe(&self, limit: Duration) -> Result<ReplicationState, EnvironmentError>;
}
