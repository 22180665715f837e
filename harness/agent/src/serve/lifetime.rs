//! How long an agent lives, and its children.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a child gets for an orderly end once nobody holds it any more. PostgreSQL's immediate shutdown takes single milliseconds.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Who keeps the agent alive, and what it keeps running.
#[derive(Debug, Default)]
pub(super) struct Lifetime {
    leases: watch::Sender<AgentLeases>,
    children: watch::Sender<usize>,
    ending: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct AgentLeases {
    now: usize,
    ever: bool,
}

/// A lease that counts until this is dropped.
pub(super) struct LeaseGuard<'a>(&'a Lifetime);

/// One child that must be stopped before the agent ends.
pub(super) struct ChildGuard<'a>(&'a Lifetime);

impl Lifetime {
    /// Keeps the agent alive.
    pub(super) fn hold(&self) -> LeaseGuard<'_> {
        self.leases.send_modify(|leases| *leases = AgentLeases { now: leases.now + 1, ever: true });
        LeaseGuard(self)
    }

    /// Waits until the last lease has ended; for the first one at most for `patience`.
    pub(super) async fn leases_over(&self, patience: Duration) {
        let mut leases = self.leases.subscribe();
        // The sender lives as long as `self`: waiting can't fail.
        if timeout(patience, leases.wait_for(|leases| leases.ever)).await.is_ok() {
            let _ = leases.wait_for(|leases| leases.now == 0).await;
        }
    }

    /// Has a child: it counts until the result is dropped.
    pub(super) fn child(&self) -> ChildGuard<'_> {
        self.children.send_modify(|count| *count += 1);
        ChildGuard(self)
    }

    /// Waits until the agent is to end.
    pub(super) async fn ending(&self) {
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Has all children stopped, and waits for their ends, at most for `limit`: what is left the kernel signals when the agent ends.
    pub(super) async fn stop_children(&self, limit: Duration) {
        self.ending.send_replace(true);
        let _ = timeout(limit, self.children.subscribe().wait_for(|count| *count == 0)).await;
    }
}

impl Drop for LeaseGuard<'_> {
    fn drop(&mut self) {
        self.0.leases.send_modify(|leases| leases.now -= 1);
    }
}

impl Drop for ChildGuard<'_> {
    fn drop(&mut self) {
        self.0.children.send_modify(|count| *count -= 1);
    }
}
