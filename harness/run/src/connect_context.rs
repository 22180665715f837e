//! Where connections of a case, a control or a timeline's client are made.

use std::time::Duration;

use tokio::sync::MutexGuard;

use super::control::Controls;
use super::credentials::CredentialSource;
use environment::{Gateway, Server};
use model::server::Service;

/// Where a case's connections are made.
pub(crate) struct ConnectContext<'a> {
    pub(crate) service: Service,
    pub(crate) server: &'a dyn Server,
    /// In front of the server, where the case has connections that go through one.
    pub(crate) gateway: Option<&'a dyn Gateway>,
    /// Issues the files that clients use; in a timeline, its mounts.
    pub(crate) credentials: &'a dyn CredentialSource,
    pub(crate) controls: &'a Controls,
    /// Several connections at a time also to a server whose log does not name its clients: then it is enough that the log says since the
    /// connection began what it must say of it.
    pub(crate) overlapping: bool,
    /// How long a client waits for the answer to a call.
    pub(crate) limit: Duration,
}

impl ConnectContext<'_> {
    /// Held around a connection to a server whose log does not name its clients.
    pub(super) async fn turn(&self) -> Option<MutexGuard<'_, ()>> {
        if self.overlapping || self.server.log_names_clients() { None } else { Some(self.controls.turn().await) }
    }
}
