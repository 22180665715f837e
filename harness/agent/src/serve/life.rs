//! How long an agent lives, and its children.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Who keeps the agent alive, and what it keeps running.
#[derive(Debug, Default)]
pub(super) struct Life {
    lifelines: watch::Sender<Lifelines>,
    children: watch::Sender<usize>,
    ending: watch::Sender<bool>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lifelines {
    now: usize,
    ever: bool,
}

/// One lifeline.
pub(super) struct Held<'a>(&'a Life);

/// One child that must be stopped before the agent ends.
pub(super) struct Running<'a>(&'a Life);

impl Life {
    /// Keeps the agent alive.
    pub(super) fn hold(&self) -> Held<'_> {
        self.lifelines.send_modify(|lifelines| *lifelines = Lifelines { now: lifelines.now + 1, ever: true });
        Held(self)
    }

    /// Waits until the last lifeline has ended; for the first one at most for `patience`.
    pub(super) async fn lifelines_over(&self, patience: Duration) {
        let mut lifelines = self.lifelines.subscribe();
        // The sender lives as long as `self`: waiting can't fail.
        if timeout(patience, lifelines.wait_for(|lifelines| lifelines.ever)).await.is_ok() {
            let _ = lifelines.wait_for(|lifelines| lifelines.now == 0).await;
        }
    }

    /// Has a child: it counts until the result is dropped.
    pub(super) fn child(&self) -> Running<'_> {
        self.children.send_modify(|count| *count += 1);
        Running(self)
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

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.lifelines.send_modify(|lifelines| lifelines.now -= 1);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.children.send_modify(|count| *count -= 1);
    }
}
