//! The volume with the harness's own binary.

use bollard::body_full;
use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::{CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder};

use super::archive::archive;
use super::client::Engine;
use super::error::EngineError;
use super::image::ImageFound;
use super::limits;
use super::removal::remove_container;
use super::shared::Shared;
use super::spec::FileSpec;

/// Where the harness's binary is in every container.
pub const HARNESS: &str = "/harness/mtls-conformance";

/// Where its volume is.
pub(super) const DIRECTORY: &str = "/harness";

/// Makes the volume, still empty.
pub(super) async fn make(engine: &Engine, name: &str, labels: &std::collections::HashMap<String, String>) -> Result<(), EngineError> {
    let request = VolumeCreateRequest { name: Some(name.to_owned()), labels: Some(labels.clone()), ..VolumeCreateRequest::default() };
    engine.ask(limits::CHANGE, || format!("make the volume {name}"), engine.docker().create_volume(request)).await?;
    Ok(())
}

/// Puts the binary into it, through a container of any image that is never started.
pub(super) async fn fill(shared: &Shared, image: &ImageFound) -> Result<(), EngineError> {
    let engine = &shared.engine;
    let unread = |source| EngineError::Harness { path: shared.harness.clone(), source };
    let binary = FileSpec { path: HARNESS.to_owned(), bytes: tokio::fs::read(&shared.harness).await.map_err(unread)?, mode: 0o755 };
    let tar = archive([&binary]).map_err(unread)?;
    let name = shared.name_of("harness");
    let body = ContainerCreateBody {
        image: Some(image.id.clone()),
        cmd: Some(vec![HARNESS.to_owned()]),
        labels: Some(shared.labels.clone()),
        network_disabled: Some(true),
        host_config: Some(HostConfig { mounts: Some(vec![mount(&shared.volume, false)]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let create = engine.docker().create_container(Some(options), body);
    engine.ask(limits::CHANGE, || format!("make the container {name}"), create).await?;
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let upload = engine.docker().upload_to_container(&name, Some(options), body_full(tar.into()));
    let uploaded = engine.ask(limits::UPLOAD, || format!("copy the harness into the volume {}", shared.volume), upload).await;
    let removed = remove_container(engine, &name).await;
    uploaded.and(removed)
}

/// How the volume is mounted in containers.
pub(super) fn mount(volume: &str, read_only: bool) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(DIRECTORY.to_owned()),
        read_only: Some(read_only),
        ..Mount::default()
    }
}
