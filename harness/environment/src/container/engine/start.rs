//! Starting a container.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bollard::models::{HostConfig, PortBinding};
use testcontainers::core::IntoContainerPort as _;
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{CopyTargetOptions, GenericImage, ImageExt as _};

use super::container::{Container, Place};
use super::error::{AttachmentProblem, EngineError, Misuse};
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
        // testcontainers would try to pull what has no name any more.
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
    let failed =
        |reason: String| EngineError::Start { name: spec.name.clone(), image: spec.image.reference.clone(), reason, log: String::new() };
    let request = request(shared, &name, spec)?;
    let started = tokio::time::timeout(limits::START, request.start())
        .await
        .map_err(|_| EngineError::Slow { what: format!("start the container {name}"), limit: limits::START })?
        .map_err(|error| failed(error.to_string()))?;
    container.set_id(started.id().to_owned());
    // Its destructor would block a thread of the runtime until the engine has answered, and panics where there is no runtime. Ours removes
    // the container as well.
    std::mem::forget(started);
    container.connect_all().await?;
    // docker-init runs in any case; whether it found the program shows afterwards.
    match container.exit_code().await? {
        None => Ok(()),
        Some(code) => Err(failed(format!("its process ended at once with exit code {code}"))),
    }
}

/// Adds the end of the container's output to what failed.
async fn with_log(container: &Container, spec: &ContainerSpec, error: EngineError) -> EngineError {
    let reason = match error {
        EngineError::Start { reason, .. } => reason,
        error => error.to_string(),
    };
    EngineError::Start { name: spec.name.clone(), image: spec.image.reference.clone(), reason, log: container.logs().await }
}

fn request(shared: &Shared, name: &str, spec: &ContainerSpec) -> Result<testcontainers::ContainerRequest<GenericImage>, EngineError> {
    let (algorithm, digest) = spec.image.id.split_once(':').unwrap_or(("sha256", &spec.image.id));
    let Some((program, arguments)) = spec.command.split_first() else {
        return Err(Misuse::NoCommand(spec.name.clone()).into());
    };
    let mut image = GenericImage::new(algorithm, digest).with_entrypoint(program);
    for port in &spec.publish {
        image = image.with_exposed_port(port.tcp());
    }
    let labels = shared.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut request = image
        .with_cmd(arguments.iter().cloned())
        .with_container_name(name)
        .with_labels(labels.chain([(IMAGE, spec.image.reference.as_str())]))
        .with_network(&shared.networks.control.name)
        .with_user("0")
        .with_startup_timeout(limits::START);
    let token = FileSpec { path: TOKEN_FILE.to_owned(), bytes: shared.token.clone().into_bytes(), mode: 0o600 };
    for file in spec.files.iter().chain([&token]) {
        request = request.with_copy_to(CopyTargetOptions::new(&file.path).with_mode(file.mode), file.bytes.clone());
    }
    let publish = spec.publish.clone();
    let tmpfs: HashMap<String, String> = spec.in_memory().into_iter().map(|path| (path, "rw,nosuid,nodev".to_owned())).collect();
    let mount = volume::mount(&shared.volume, true);
    Ok(request.with_host_config_modifier(move |host| configure(host, &publish, &tmpfs, &mount)))
}

fn configure(host: &mut HostConfig, publish: &[u16], tmpfs: &HashMap<String, String>, mount: &bollard::models::Mount) {
    host.init = Some(true);
    // Without it the engine takes even ::1 away.
    host.sysctls = Some(HashMap::from([("net.ipv6.conf.all.disable_ipv6".to_owned(), "0".to_owned())]));
    // testcontainers publishes every port that the image exposes, on all interfaces.
    host.publish_all_ports = Some(false);
    let loopback = || Some(vec![PortBinding { host_ip: Some(Ipv4Addr::LOCALHOST.to_string()), host_port: None }]);
    host.port_bindings = Some(publish.iter().map(|port| (format!("{port}/tcp"), loopback())).collect());
    host.tmpfs = (!tmpfs.is_empty()).then(|| tmpfs.clone());
    host.mounts.get_or_insert_default().push(mount.clone());
    // Names that no container has are asked for outside, where nobody answers: without these, for ten seconds.
    host.dns = Some(vec![Ipv4Addr::LOCALHOST.to_string()]);
    host.dns_options = Some(vec!["timeout:1".to_owned(), "attempts:1".to_owned()]);
}
