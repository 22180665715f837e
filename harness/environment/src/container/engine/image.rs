//! Images: which of the candidates is there.

use std::sync::Arc;

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::TryStreamExt as _;

use super::client::Engine;
use super::error::{EngineError, PullError};
use super::limits;

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFound {
    /// The reference under which it was found.
    pub reference: String,
    /// The engine's id of it, `sha256:...`: what containers are started from, so that a tag which moves during a run changes nothing.
    pub id: String,
    /// The digest in its repository, `name@sha256:...`; `None` for an image that was built or imported here.
    pub digest: Option<String>,
    /// The paths for which it declares volumes.
    pub volumes: Vec<String>,
}

impl Engine {
    /// Whether an image is there, without pulling it.
    ///
    /// # Errors
    /// [`EngineError`] if the engine does not say.
    pub async fn present(&self, reference: &str) -> Result<bool, EngineError> {
        Ok(self.look(reference).await?.is_some())
    }

    /// The first of the candidates that is there. If none is, they are pulled in this order until one comes; a reference whose pull has
    /// failed is not tried again.
    ///
    /// # Errors
    /// [`EngineError::NoImage`] with what was found for each; others if the engine fails.
    pub async fn resolve(&self, candidates: &[impl AsRef<str>]) -> Result<ImageFound, EngineError> {
        for reference in candidates {
            if let Some(found) = self.look(reference.as_ref()).await? {
                return Ok(found);
            }
        }
        let mut tried = Vec::new();
        for reference in candidates {
            let reference = reference.as_ref();
            match self.pull_once(reference).await {
                Ok(()) => match self.look(reference).await? {
                    Some(found) => return Ok(found),
                    None => tried.push(format!("{reference} was pulled, and is not there")),
                },
                Err(error) => tried.push(format!("{reference} is not there and can't be pulled ({error})")),
            }
        }
        if tried.is_empty() {
            tried.push("none was named".to_owned());
        }
        Err(EngineError::NoImage { tried })
    }

    async fn look(&self, reference: &str) -> Result<Option<ImageFound>, EngineError> {
        match self.ask(limits::LOOK, || format!("look for the image {reference}"), self.docker().inspect_image(reference)).await {
            Ok(image) => Ok(Some(found(reference, image))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Pulls one image; an earlier failure is told again.
    async fn pull_once(&self, reference: &str) -> Result<(), PullError> {
        // Held during the pull: a second case that wants the same image waits for its outcome.
        let mut failed = self.inner.failed_pulls.lock().await;
        if let Some(error) = failed.get(reference) {
            return Err(error.clone());
        }
        let options = CreateImageOptionsBuilder::new().from_image(&with_tag(reference)).build();
        let pull = self.docker().create_image(Some(options), None, None).try_for_each(|_| std::future::ready(Ok(())));
        let outcome = self.ask(limits::PULL, || format!("pull {reference}"), pull).await;
        outcome.map_err(|error| {
            let error = PullError(Arc::new(error));
            failed.insert(reference.to_owned(), error.clone());
            error
        })
    }
}

fn found(reference: &str, image: ImageInspect) -> ImageFound {
    ImageFound {
        reference: reference.to_owned(),
        id: image.id.unwrap_or_else(|| reference.to_owned()),
        digest: image.repo_digests.into_iter().flatten().next(),
        volumes: image.config.and_then(|config| config.volumes).unwrap_or_default(),
    }
}

/// Without a tag the engine would pull all tags.
fn with_tag(reference: &str) -> String {
    let name = reference.rsplit('/').next().unwrap_or(reference);
    if name.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reference_without_tag_and_digest_gets_one() {
        for (given, pulled) in [
            ("postgres", "postgres:latest"),
            ("postgres:17", "postgres:17"),
            ("127.0.0.1:5000/postgres", "127.0.0.1:5000/postgres:latest"),
            ("postgres@sha256:0123", "postgres@sha256:0123"),
        ] {
            assert_eq!(with_tag(given), pulled);
        }
    }
}
