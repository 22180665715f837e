//! Where servers come from.

use std::sync::Arc;

use async_trait::async_trait;

use super::error::EnvironmentError;
use super::installation::{Gateway, InstallOptions, Installation};
use super::server::Server;
use model::change::Change;
use model::claim::Subject;
use model::network::Networks;
use model::outcome::SkipReason;
use model::report::Component;
use model::server::{ServerConfig, ServerKey};

/// Where servers come from.
#[async_trait]
pub trait Environment: Send + Sync {
    /// Its name on the command line and in reports: `local` or `container`.
    fn name(&self) -> &'static str;

    /// The subjects that are real here: only they can confirm or refute claims about themselves.
    fn real_subjects(&self) -> &'static [Subject];

    /// What it found, for doctor and report.
    fn components(&self) -> Vec<Component>;

    /// The networks that clients can be in, and the gateway's. The same for the whole run.
    fn networks(&self) -> Networks;

    /// Why it can't give such a server; `None` if it can.
    fn unable(&self, key: ServerKey) -> Option<SkipReason>;

    /// The server of that key: started at the first call, the same one afterwards, until [`Environment::release`].
    ///
    /// # Errors
    /// [`EnvironmentError`] if it did not come up; the same error at later calls.
    async fn server(&self, key: ServerKey) -> Result<Arc<dyn Server>, EnvironmentError>;

    /// Stops the server of that key, which no case needs any more, and removes what it has written.
    async fn release(&self, key: ServerKey) {
        let _ = key;
    }

    /// Whether a server of that key starts with this configuration, beside the one that cases share: what it says against it where it ends
    /// by itself; `None` where it starts. It is stopped, and what it has written is removed.
    ///
    /// # Errors
    /// [`EnvironmentError`] if that can't be told: something else kept it from starting, or it starts in the same place with the deployment's
    /// own configuration no more than with this one.
    async fn objection(&self, key: ServerKey, config: &ServerConfig) -> Result<Option<String>, EnvironmentError>;

    /// An installation for one timeline, its servers running.
    ///
    /// # Errors
    /// [`EnvironmentError`] if something of it did not come up, or if this environment can't make one.
    async fn install(&self, options: &InstallOptions) -> Result<Arc<dyn Installation>, EnvironmentError>;

    /// Why it can't put a gateway in front of such a server; `None` if it can.
    fn unable_gateway(&self, key: ServerKey) -> Option<SkipReason> {
        Some(SkipReason::EnvironmentUnable(format!("the environment {} has no gateway in front of {key}", self.name())))
    }

    /// Why it can't make such a change in any installation; `None` if it can. A timeline with one of these is skipped before anything of it
    /// starts.
    fn unable_change(&self, change: &Change<String>) -> Option<SkipReason> {
        let _ = change;
        None
    }

    /// The gateway in front of a key's server: started at the first call.
    ///
    /// # Errors
    /// [`EnvironmentError`] if it did not come up, or if this environment has none.
    async fn gateway(&self, key: ServerKey) -> Result<Arc<dyn Gateway>, EnvironmentError>;

    /// Stops everything; what could not be removed, each with what was tried.
    async fn close(&self) -> Vec<String>;
}
