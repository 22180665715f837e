//! Containers for servers: which images are there, and a container for each server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::OnceCell;

use super::agent_container::AgentContainer;
use super::data::Archives;
use super::engine::{Attachment, Engine, HARNESS, ImageFound, Scope};
use super::machine::{ContainerMachine, POSTGRES_PORT, Parts, REDIS_PORT};
use super::pool::ContainerPool;
use super::purpose::Purpose;
use crate::error::{AgentContainerError, EnvironmentError, Failure, ImageError, MachineError, NotInstalled, StartCause};
use crate::servers::{Machine, Machines, Role};
use agent::{ClientContainer, Survey};
use load::images::Images;
use model::change::Change;
use model::claim::Subject;
use model::image::ImageUse;
use model::network::{Network, NetworkName, Networks};
use model::outcome::SkipReason;
use model::report::Component;
use model::server::{DeploymentKind, ServerKey, Service};

/// The last part of the clients' address, in every network.
const CLIENT: u8 = 7;

/// The last part of the gateways' address, in every network.
const GATEWAY: u8 = 2;

/// The range of the pods' network as pg_hba.conf has it: that of the documents.
const PODS_RANGE: &str = "10.0.0.0/8";

/// The name of the gateways' container.
const GATEWAYS: &str = "gateways";

/// The image for each use, or why there is none.
pub(super) type ImagesByUse = BTreeMap<ImageUse, Result<ImageFound, ImageError>>;

/// Looks for the images that a run needs.
pub(super) async fn find(engine: &Engine, images: &Images, uses: impl IntoIterator<Item = &ImageUse>) -> ImagesByUse {
    let mut found = ImagesByUse::new();
    for image_use in uses {
        let image = match images.candidates(*image_use) {
            Ok(candidates) => {
                let references: Vec<String> = candidates.iter().map(|candidate| candidate.reference.to_string()).collect();
                engine.resolve(&references).await.map_err(ImageError::from)
            }
            Err(error) => Err(error.into()),
        };
        found.insert(*image_use, image);
    }
    found
}

/// Gives a container to every server.
pub(super) struct ContainerMachines {
    starter: ContainerStarter,
    clients: Arc<AgentContainer>,
    client_container: Arc<ClientContainer>,
    gateways: OnceCell<Result<Arc<ContainerMachine>, Failure>>,
    archives: Arc<Archives>,
}

/// Containers by role, started or taken over.
struct ContainerStarter {
    scope: Scope,
    token: String,
    found: ImagesByUse,
    /// What is in an image, by its id.
    surveys: Mutex<BTreeMap<String, Arc<Survey>>>,
    pool: Arc<ContainerPool>,
    run_directory: PathBuf,
}

impl ContainerMachines {
    /// Starts the container that clients' connections come from, and `uses` others, so that the first servers find theirs. `found` needs one
    /// image at least.
    pub(super) async fn start(
        scope: Scope,
        token: String,
        found: ImagesByUse,
        uses: &BTreeMap<ImageUse, usize>,
        run_directory: PathBuf,
        cache_directory: PathBuf,
    ) -> Result<Self, EnvironmentError> {
        let image = found.get(&ImageUse::Clients).into_iter().chain(found.values()).find_map(|image| image.as_ref().ok());
        let none = || {
            let reasons = found.iter().filter_map(|(image_use, image)| Some((*image_use, image.as_ref().err()?.clone())));
            ImageError::None(reasons.collect())
        };
        let image = image.ok_or_else(none)?.clone();
        let networks = NetworkName::OF_CLIENTS.map(|network| Attachment { network, host: Some(CLIENT) });
        let starter = ContainerStarter { scope, token, found, surveys: Mutex::default(), pool: Arc::default(), run_directory };
        let clients = AgentContainer::start(&starter.scope, &starter.token, "clients", image, &networks, &[]);
        let (clients, ()) = tokio::join!(clients, starter.start_first(uses));
        let clients = Arc::new(clients?);
        let client_container = Arc::new(ClientContainer::new(clients.agent().clone(), HARNESS));
        Ok(Self { starter, clients, client_container, gateways: OnceCell::new(), archives: Arc::new(Archives::new(cache_directory)) })
    }

    async fn container(&self, role: Role, name: &str) -> Result<ContainerMachine, Failure> {
        let AssignedContainer { purpose, agent_container, survey, image } = self.starter.assign(role, name).await?;
        let run_directory = &self.starter.run_directory;
        Ok(ContainerMachine::new(Parts {
            purpose,
            agent_container,
            clients: Arc::clone(&self.clients),
            survey,
            archives: Arc::clone(&self.archives),
            pool: Arc::clone(&self.starter.pool),
            image: image.id,
            here: if purpose == Purpose::Gateways { run_directory.clone() } else { run_directory.join(name) },
        }))
    }
}

impl ContainerStarter {
    /// Starts so many containers for each use, so that it is known what is in the images, and that the first servers find theirs. One that
    /// does not come up is told of by the server that asks for it.
    async fn start_first(&self, uses: &BTreeMap<ImageUse, usize>) {
        let there = uses.iter().filter(|(image_use, _)| self.found.get(*image_use).is_some_and(Result::is_ok));
        let roles = there.filter_map(|(image_use, count)| Some(std::iter::repeat_n(role(*image_use)?, *count))).flatten();
        let assigned = futures_util::future::join_all(roles.map(|role| self.assign(role, GATEWAYS))).await;
        // Not before all are there: each is to be another one.
        for AssignedContainer { purpose, agent_container, image, .. } in assigned.into_iter().flatten() {
            self.pool.give(&image.id, purpose, agent_container);
        }
    }

    /// The image for a role.
    fn image(&self, role: Role) -> Result<&ImageFound, ImageError> {
        match self.found.get(&image_use(role)) {
            Some(found) => found.as_ref().map_err(Clone::clone),
            None => Err(ImageError::NotLookedFor(role.to_string())),
        }
    }

    /// A container for a role, and what is in it.
    async fn assign(&self, role: Role, name: &str) -> Result<AssignedContainer, Failure> {
        let failed = |cause: StartCause| Failure::new(cause, self.run_directory.join(name));
        let image = self.image(role).map_err(|error| failed(error.into()))?.clone();
        let (purpose, publish, host) = match role {
            Role::Server(ServerKey { service: Service::Postgres, .. }) => (Purpose::Postgres, vec![POSTGRES_PORT], None),
            Role::Server(ServerKey { service: Service::Redis, .. }) => (Purpose::Redis, vec![REDIS_PORT], None),
            Role::Gateway if is_installations(name) => (Purpose::Gateway, Vec::new(), None),
            Role::Gateway => (Purpose::Gateways, Vec::new(), Some(GATEWAY)),
        };
        let free = match self.pool.take(&image.id, purpose) {
            // Its agent may have ended meanwhile.
            Some(free) if free.agent().hold().await.is_ok() => Some(free),
            _ => None,
        };
        let agent_container = match free {
            Some(free) => free,
            None => {
                let networks = NetworkName::ALL.map(|network| Attachment { network, host });
                let name = self.pool.name(image_use(role));
                let not_started = |error: AgentContainerError| failed(MachineError::from(error).into());
                Arc::new(
                    AgentContainer::start(&self.scope, &self.token, &name, image.clone(), &networks, &publish)
                        .await
                        .map_err(not_started)?,
                )
            }
        };
        let known = self.surveys.lock().unwrap_or_else(PoisonError::into_inner).get(&image.id).cloned();
        let survey = match known {
            Some(survey) => survey,
            None => {
                let survey = agent_container.agent().survey().await.map_err(|error| failed(MachineError::from(error).into()))?;
                let mut surveys = self.surveys.lock().unwrap_or_else(PoisonError::into_inner);
                Arc::clone(surveys.entry(image.id.clone()).or_insert_with(|| Arc::new(survey)))
            }
        };
        Ok(AssignedContainer { purpose, agent_container, survey, image })
    }

    /// What is known of the image for a use.
    fn component(&self, image_use: ImageUse, image: &Result<ImageFound, ImageError>) -> Component {
        let surveys = self.surveys.lock().unwrap_or_else(PoisonError::into_inner);
        let survey = image.as_ref().ok().and_then(|image| surveys.get(&image.id));
        let toolchain = survey.map(|survey| &survey.toolchain);
        let build = |major| toolchain.and_then(|toolchain| toolchain.postgres(major));
        let (version, tls_library) = match image_use {
            ImageUse::Postgres(major) => {
                (build(major).map(|build| build.version.clone()), build(major).and_then(|build| build.openssl.clone()))
            }
            ImageUse::Redis => (toolchain.and_then(|toolchain| toolchain.redis.as_ref()).map(|tool| tool.version.clone()), None),
            ImageUse::Haproxy => (toolchain.and_then(|toolchain| toolchain.haproxy.as_ref()).map(|tool| tool.version.clone()), None),
            ImageUse::Clients => (survey.and_then(|survey| survey.python.as_ref()).map(|python| python.version.clone()), None),
        };
        Component {
            name: image_use.to_string(),
            version,
            tls_library,
            origin: image.as_ref().ok().map(|image| format!("image {} ({})", image.reference, image.digest.as_ref().unwrap_or(&image.id))),
            missing: image.as_ref().err().map(ToString::to_string),
        }
    }
}

/// Whether a name is that of a part of an installation: those have a directory of their own.
fn is_installations(name: &str) -> bool {
    name.contains('/')
}

/// A container with its purpose.
struct AssignedContainer {
    purpose: Purpose,
    agent_container: Arc<AgentContainer>,
    survey: Arc<Survey>,
    image: ImageFound,
}

/// Some role that needs this image; `None` for that of clients.
fn role(image_use: ImageUse) -> Option<Role> {
    let server = |service, version| Some(Role::Server(ServerKey { service, version, deployment: DeploymentKind::Documented }));
    match image_use {
        ImageUse::Postgres(major) => server(Service::Postgres, Some(major)),
        ImageUse::Redis => server(Service::Redis, None),
        ImageUse::Haproxy => Some(Role::Gateway),
        ImageUse::Clients => None,
    }
}

/// The image that a role needs.
pub(super) fn image_use(role: Role) -> ImageUse {
    match role {
        Role::Gateway => ImageUse::Haproxy,
        Role::Server(ServerKey { service: Service::Redis, .. }) => ImageUse::Redis,
        Role::Server(ServerKey { version, .. }) => ImageUse::Postgres(version.unwrap_or_default()),
    }
}

#[async_trait]
impl Machines for ContainerMachines {
    fn name(&self) -> &'static str {
        "container"
    }

    fn real_subjects(&self) -> &'static [Subject] {
        const ALWAYS: [Subject; 6] =
            [Subject::Postgres, Subject::Libpq, Subject::Redis, Subject::Openssl, Subject::Clients, Subject::Config];
        const WITH_GATEWAY: [Subject; 7] =
            [Subject::Postgres, Subject::Libpq, Subject::Redis, Subject::Openssl, Subject::Clients, Subject::Config, Subject::Gateway];
        if self.missing(Role::Gateway).is_none() { &WITH_GATEWAY } else { &ALWAYS }
    }

    fn servers_run_as(&self) -> String {
        "the user of each image".to_owned()
    }

    fn networks(&self) -> Networks {
        let of = |network| {
            let range = if network == NetworkName::Pods { PODS_RANGE.to_owned() } else { self.starter.scope.range(network) };
            // No client is in the gateway's.
            let gateway = || self.starter.scope.address(network, GATEWAY);
            (network, Network { range, client: self.clients.address_in(network).unwrap_or_else(gateway) })
        };
        Networks(NetworkName::ALL.map(of).into())
    }

    fn components(&self) -> Vec<Component> {
        self.starter.found.iter().map(|(image_use, image)| self.starter.component(*image_use, image)).collect()
    }

    fn client_container(&self) -> Option<Arc<ClientContainer>> {
        Some(Arc::clone(&self.client_container))
    }

    fn missing(&self, role: Role) -> Option<NotInstalled> {
        self.starter.image(role).err().map(NotInstalled::Image)
    }

    fn unable_change(&self, _: &Change<String>) -> Option<SkipReason> {
        None
    }

    async fn machine(&self, role: Role, name: &str) -> Result<Arc<dyn Machine>, Failure> {
        if role == Role::Gateway && !is_installations(name) {
            let made = self.gateways.get_or_init(|| async { self.container(role, name).await.map(Arc::new) }).await;
            return made.clone().map(|machine| machine as Arc<dyn Machine>);
        }
        Ok(Arc::new(self.container(role, name).await?))
    }

    async fn close(&self) -> Vec<String> {
        self.starter.scope.close().await.iter().map(ToString::to_string).collect()
    }
}
