//! What everything of a running timeline shares.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::RwLock;

use super::super::connect_context::ConnectContext;
use super::super::context::RunContext;
use super::super::control::Controls;
use super::attempt_log::{AttemptLog, ClientAttempts};
use super::mounts::Mounts;
use environment::{Gateway, Installation, Replication, Server};
use model::driver::Family;
use model::server::Service;
use model::timeline::ClientKind;
use model::timeline::plan::{ClientPlan, TimelinePlan};

/// What everything of a running timeline shares.
pub(super) struct TimelineContext {
    pub(super) run_context: Arc<RunContext>,
    pub(super) plan: Arc<TimelinePlan>,
    pub(super) service: Service,
    pub(super) installation: Arc<dyn Installation>,
    pub(super) server: Arc<dyn Server>,
    pub(super) gateway: Option<Arc<dyn Gateway>>,
    pub(super) replication: Option<Arc<dyn Replication>>,
    pub(super) mounts: Mounts,
    pub(super) controls: Controls,
    pub(super) attempt_log: AttemptLog,
    /// The phase whose changes were done last, from 0.
    pub(super) phase: AtomicUsize,
    /// Held for reading while a client reads its mounted files, for writing while these change. The kubelet swaps all files of a mount at
    /// once, but a client opens one after the other: whoever does so across the swap sees a key that does not fit. That lasts microseconds
    /// and is not what a timeline is about.
    pub(super) files: RwLock<()>,
}

impl TimelineContext {
    /// How long a client waits for the answer to a call.
    pub(super) fn limit(&self, client: usize) -> Duration {
        let run = self.run_context.limits.connect;
        self.plan.clients.get(client).and_then(|client| client.limit).map_or(run, |own| own.min(run))
    }

    pub(super) fn connect_context(&self, client: usize) -> ConnectContext<'_> {
        ConnectContext {
            service: self.service,
            server: self.server.as_ref(),
            gateway: self.gateway.as_deref(),
            credentials: &self.mounts,
            controls: &self.controls,
            overlapping: true,
            limit: self.limit(client),
        }
    }

    pub(super) fn family(&self, client: &ClientPlan) -> Family {
        match client.kind {
            // The replica's WAL receiver is libpq.
            ClientKind::Replication => Family::Libpq,
            _ => self.run_context.drivers.get(&client.connect.driver).map_or(Family::Other, |driver| driver.info().family),
        }
    }

    /// The clients as they saw it since `changed`, and until `to`.
    pub(super) fn seen(&self, changed: Duration, to: Option<Duration>) -> Vec<ClientAttempts<'_>> {
        let clients = self.plan.clients.iter().enumerate();
        clients
            .map(|(index, client)| ClientAttempts {
                client,
                family: self.family(client),
                attempts: self.attempt_log.between(index, changed, to),
                lost: self.attempt_log.lost(index, to),
                waits: self.attempt_log.waits(index, to),
            })
            .collect()
    }
}
