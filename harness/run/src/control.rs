//! Positive controls: every refused connection has one that differs only in the offending thing and must succeed.
//!
//! A control is made once per server configuration, driver and plan: the endpoint is the same for all cases that share it.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::not_run::ControlError;
use model::case::ConnectPlan;

/// What a control showed: `Err` says why the refused cases that rely on it prove nothing.
pub(crate) type ControlResult = Result<(), Arc<ControlError>>;

/// The controls of one server configuration.
#[derive(Default)]
pub(crate) struct Controls {
    done: Mutex<HashMap<ConnectPlan, Arc<OnceCell<ControlResult>>>>,
    turn: Mutex<()>,
}

impl Controls {
    /// Held around a connection to a server whose log does not name its clients: there, one at a time.
    pub(crate) async fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// The control's result, and whether this call made it.
    pub(crate) async fn result<F, Fut>(&self, plan: &ConnectPlan, make: F) -> (ControlResult, bool)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = ControlResult>,
    {
        let cell = Arc::clone(self.done.lock().await.entry(plan.clone()).or_default());
        let mut made = false;
        let result = cell
            .get_or_init(|| {
                made = true;
                make()
            })
            .await
            .clone();
        (result, made)
    }
}
