//! Starting a container.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bollard::body_full;
use bollard::models::{ContainerCreateBody, HostConfig, PortBinding};
use bollard::query_parameters::{CreateContainerOptionsBuilder, UploadToContainerOptionsBuilder};

use super::archive::archive;
use super::container::{Container, Place};
use super::error::{AttachmentProblem, EngineError, Misuse, about};
use super::labels::IMAGE;
use super::scope::Scope;
use super::shared::Shared;
use super::spec::{ContainerSpec, FileSpec};
use super::{limits, volume};

/// Where every container finds the run's token, mode 0600.
pub const TOKEN_FILE: &str = "/etc/mtls-conformance/token";

impl Scope {
    /// Starts a container: it runs when this returns, and is on all its networks. Whether its process does anything is not waited for; one
    /// that has ended already is an error.
    ///
    /// # Errors
    /// [`EngineError`]; nothing of it is left then.
    pub async fn start(&self, spec: ContainerSpec) -> Result<Container, EngineError> {
        let shared = &self.shared;
        let closed = shared.closed.read().await;
        if *closed {
            return Err(Misuse::Closed(spec.name).into());
        }
        spec.check()?;
        // Said here, the message names the reference; the engine would only repeat the id.
        if !shared.engine.present(&spec.image.id).await? {
            let (reference, id) = (&spec.image.reference, &spec.image.id);
            return Err(EngineError::NoImage { tried: vec![format!("{reference} was there as {id}, and was removed meanwhile")] });
        }
        shared.filled.get_or_try_init(|| volume::fill(shared, &spec.image)).await?;
        // From here on the container is removed when this is given up.
        let mut container = reserve(shared, &spec)?;
        match run(shared, &mut container, &spec).await {
            Ok(()) => Ok(container),
            Err(error) => {
                let error = with_log(&container, &spec, error).await;
                // The first error is told. What is left is removed at the run's end.
                let _ = container.remove().await;
                Err(error)
            }
        }
    }
}

/// Takes name and addresses.
fn reserve(shared: &Arc<Shared>, spec: &ContainerSpec) -> Result<Container, EngineError> {
    let mut reservations = shared.reservations();
    if reservations.names.contains(&spec.name) {
        return Err(Misuse::NameTaken(spec.name.clone()).into());
    }
    let mut places: Vec<Place> = Vec::new();
    for attachment in &spec.networks {
        let network = attachment.network;
        let taken = match places.iter().any(|place| place.network == network) {
            true => Err(AttachmentProblem::Twice),
            false => reservations.addresses.entry(network).or_default().take(attachment.host).ok_or(match attachment.host {
                Some(host) => AttachmentProblem::AddressTaken(host),
                None => AttachmentProblem::NoAddress,
            }),
        };
        match taken {
            Ok(host) => places.push(Place { network, host, address: shared.network(network)?.range.address(host) }),
            Err(problem) => {
                for place in places {
                    reservations.addresses.entry(place.network).or_default().give_back(place.host);
                }
                return Err(Misuse::Attachment { container: spec.name.clone(), network, problem }.into());
            }
        }
    }
    reservations.names.insert(spec.name.clone());
    drop(reservations);
    Ok(Container::new(Arc::clone(shared), spec.name.clone(), places, spec.aliases.clone()))
}

async fn run(shared: &Shared, container: &mut Container, spec: &ContainerSpec) -> Result<(), EngineError> {
    let name = container.engine_name().to_owned();
    tokio::time::timeout(limits::START, launch(shared, container, &name, spec))
        .await
        .map_err(|_| EngineError::Slow { what: format!("start the container {name}"), limit: limits::START })??;
    container.connect_all().await?;
    // docker-init runs in any case; whether it found the program shows afterwards.
    match container.exit_code().await? {
        None => Ok(()),
        Some(code) => Err(failed(spec, format!("its process ended at once with exit code {code}"))),
    }
}

/// Makes the container, copies its files into it and starts it.
async fn launch(shared: &Shared, container: &mut Container, name: &str, spec: &ContainerSpec) -> Result<(), EngineError> {
    let docker = shared.engine.docker();
    let refused = |step: &str, error: &bollard::errors::Error| failed(spec, format!("{step}: {}", about(error)));
    let options = CreateContainerOptionsBuilder::new().name(name).build();
    let created = docker.create_container(Some(options), body(shared, spec)?).await.map_err(|error| refused("making it", &error))?;
    container.set_id(created.id);
    let token = FileSpec { path: TOKEN_FILE.to_owned(), bytes: shared.token.clone().into_bytes(), mode: 0o600 };
    let files = archive(spec.files.iter().chain([&token])).map_err(|error| failed(spec, format!("packing its files: {error}")))?;
    let options = UploadToContainerOptionsBuilder::new().path("/").build();
    let upload = docker.upload_to_container(name, Some(options), body_full(files.into()));
    upload.await.map_err(|error| refused("copying its files", &error))?;
    docker.start_container(name, None).await.map_err(|error| refused("starting it", &error))
}

fn failed(spec: &ContainerSpec, reason: String) -> EngineError {
    EngineError::Start { name: spec.name.clone(), image: spec.image.reference.clone(), reason, log: String::new() }
}

/// Adds the end of the container's output to what failed.
async fn with_log(container: &Container, spec: &ContainerSpec, error: EngineError) -> EngineError {
    let reason = match error {
        EngineError::Start { reason, .. } => reason,
        error => error.to_string(),
    };
    EngineError::Start { name: spec.name.clone(), image: spec.image.reference.clone(), reason, log: container.logs().await }
}

/// What the engine makes the container of. It starts as root: agents give up what their processes don't need.
fn body(shared: &Shared, spec: &ContainerSpec) -> Result<ContainerCreateBody, EngineError> {
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(Misuse::NoCommand(spec.name.clone()).into());
    };
    let mut labels = shared.labels.clone();
    labels.insert(IMAGE.to_owned(), spec.image.reference.clone());
    Ok(ContainerCreateBody {
        image: Some(spec.image.id.clone()),
        entrypoint: Some(vec![program.clone()]),
        cmd: Some(arguments.to_vec()),
        user: Some("0".to_owned()),
        labels: Some(labels),
        exposed_ports: Some(spec.publish.iter().map(|port| format!("{port}/tcp")).collect()),
        host_config: Some(host_config(shared, spec)),
        ..ContainerCreateBody::default()
    })
}

fn host_config(shared: &Shared, spec: &ContainerSpec) -> HostConfig {
    let tmpfs: HashMap<String, String> = spec.in_memory().into_iter().map(|path| (path, "rw,nosuid,nodev".to_owned())).collect();
    let loopback = || Some(vec![PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: None }]);
    HostConfig {
        network_mode: Some(shared.networks.control.name.clone()),
        init: Some(true),
        // Without it the engine takes even ::1 away.
        sysctls: Some(HashMap::from([("net.ipv6.conf.all.disable_ipv6".to_owned(), "0".to_owned())])),
        port_bindings: Some(spec.publish.iter().map(|port| (format!("{port}/tcp"), loopback())).collect()),
        tmpfs: (!tmpfs.is_empty()).then_some(tmpfs),
        mounts: Some(vec![volume::mount(&shared.volume, true)]),
        // Names that no container has are asked for outside, where nobody answers: without these, for ten seconds.
        dns: Some(vec![Ipv4Addr::LOCALHOST.to_string()]),
        dns_options: Some(vec!["timeout:1".to_owned(), "attempts:1".to_owned()]),
        ..HostConfig::default()
    }
}
