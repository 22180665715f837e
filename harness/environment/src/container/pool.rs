//! Containers whose server is not needed any more: starting one takes the engine many times as long as starting a server in it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::agent_container::AgentContainer;
use super::purpose::Purpose;
use model::image::ImageUse;

/// An image's id, and what a container of it is for.
type Kind = (String, Purpose);

/// Containers that are free for another server.
#[derive(Default)]
pub(super) struct ContainerPool {
    free: Mutex<BTreeMap<Kind, Vec<Arc<AgentContainer>>>>,
    named: AtomicU64,
}

impl ContainerPool {
    /// One of this image (its id) for this purpose, with nothing of its last server in it.
    pub(super) fn take(&self, image: &str, purpose: Purpose) -> Option<Arc<AgentContainer>> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.get_mut(&(image.to_owned(), purpose))?.pop()
    }

    /// Nothing of its last server may be left in it.
    pub(super) fn give(&self, image: &str, purpose: Purpose, agent_container: Arc<AgentContainer>) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).entry((image.to_owned(), purpose)).or_default().push(agent_container);
    }

    /// A name for a new one, such as `postgres-17-3`.
    pub(super) fn name(&self, image_use: ImageUse) -> String {
        format!("{image_use}-{}", self.named.fetch_add(1, Ordering::Relaxed) + 1)
    }
}
