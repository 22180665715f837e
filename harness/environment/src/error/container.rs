//! What can go wrong with containers, beyond what the engine itself says.

use std::sync::Arc;

use load::images::NoImage;
use model::image::ImageUse;
use os::poll::PollTimeout;

use crate::container::engine::EngineError;

/// What the harness's own binary needs of an image.
const NEEDS: &str = "the image must be of Linux with a glibc that is no older than this machine's";

/// A container, or the agent in it, did not do what it should.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AgentContainerError {
    /// The engine failed, or refused.
    #[error(transparent)]
    Engine(Arc<EngineError>),
    /// The container ended at once, and its output names the harness's binary: it could not be run there.
    #[error("{0}; {NEEDS}")]
    CannotRun(#[source] Arc<EngineError>),
    /// The container runs, and its agent answers nobody.
    #[error("the harness's own binary does not answer in the container {name} ({image}): {source}; it says: {said}; {NEEDS}")]
    NoAnswer {
        /// The container's short name.
        name: String,
        /// The reference of its image.
        image: String,
        /// What the last try gave.
        source: Arc<PollTimeout>,
        /// The end of its output.
        said: String,
    },
    /// The container was started again, and its agent answers nobody.
    #[error(transparent)]
    NoAnswerAgain(Arc<PollTimeout>),
}

impl From<EngineError> for AgentContainerError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Arc::new(error))
    }
}

/// There is no image for a use.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// No candidate is there or can be pulled.
    #[error(transparent)]
    Engine(Arc<EngineError>),
    /// No candidate is named.
    #[error(transparent)]
    Unnamed(#[from] NoImage),
    /// The run's cases did not need it when images were looked for.
    #[error("this run did not look for an image for {0}")]
    NotLookedFor(String),
    /// Of all uses none has an image, so that even the clients' container can't be started.
    #[error("there is no image to run containers from: {}", listed(.0))]
    None(Vec<(ImageUse, ImageError)>),
}

fn listed(reasons: &[(ImageUse, ImageError)]) -> String {
    reasons.iter().map(|(image_use, error)| format!("{image_use}: {error}")).collect::<Vec<_>>().join("; ")
}

impl From<EngineError> for ImageError {
    fn from(error: EngineError) -> Self {
        Self::Engine(Arc::new(error))
    }
}
