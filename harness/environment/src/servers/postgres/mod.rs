//! One PostgreSQL server.

pub(super) mod admin;
pub(super) mod process;
pub(super) mod settings;

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Mutex;

use self::admin::{Later, Session, prepare_application};
use self::process::{main_file, reload, start_once};
use super::configure::ConfigFile;
use super::configure::Paths;
use super::instance::{Instance, LogPosition, Place, Placed, PortTries, ProcessState, STOP_LIMIT};
use super::machine::Process;
use super::manifest::HBA_FILE;
use super::shared::Shared;
use super::written::Written;
use crate::error::{ConfigError, ConfigureCause, Failure, StartCause};
use crate::{EnvironmentError, EvidenceFile};
use model::server::{ServerConfig, ServerKey};
use serverlog::JsonLog;

/// A PostgreSQL that cases share: a reload brings it to the configuration of each.
pub(super) struct PostgresServer {
    shared: Arc<Shared>,
    place: Place,
    state: Mutex<State>,
    /// Kept open, since nobody can log in as its role any more.
    admin: Mutex<Admin>,
}

/// The harness's own session with a server, and what it was told last, with the generation of the configuration that it was told of.
struct Admin {
    session: Session,
    told: Option<(u64, Vec<EvidenceFile>)>,
}

/// What changes with every configuration.
struct State {
    child: Process,
    written: Written,
    generation: u64,
    /// The configuration that it surely has; `None` after a failure.
    applied: Option<ServerConfig>,
}

impl PostgresServer {
    /// Starts a server with the deployment's own configuration.
    pub(super) async fn start(shared: Arc<Shared>, key: ServerKey) -> Result<Self, EnvironmentError> {
        let name = key.to_string();
        let machine = shared.machine(key, &name).await?;
        let server = async {
            let mut place = Place::make(&shared, Arc::clone(&machine), key, &name, "server.log", "server.json", JsonLog).await?;
            let bin = machine.make_data(key.version.unwrap_or_default(), &place.paths.data).await?;
            let mut tries = PortTries::default();
            loop {
                place.take_port()?;
                let mut written = Written::default();
                // Name and password of the application are set over the private unix socket before the real rules hold.
                let rules = admin::rules();
                let files = files(&shared, key, &place.paths, &ServerConfig::default(), Some(&rules));
                let files = files.map_err(|error| Failure::new(error, &place.log))?;
                written.bring_to(files, machine.as_ref()).await.map_err(|error| Failure::new(error, &place.log))?;
                if let Some(child) = tries.result(start_once(&shared, &bin, &place).await)? {
                    return Ok((place, State { child, written, generation: 0, applied: None }));
                }
            }
        };
        let (place, state) = server.await.map_err(|failure: Failure| failure.at_start_of(&key))?;
        let session = prepare_application(&shared, &place, Later::Never)
            .await
            .map_err(|source| place.failure(LogPosition::default(), |said| StartCause::Application { source, said }).at_start_of(&key))?;
        let server = Self { shared, place, state: Mutex::new(state), admin: Mutex::new(Admin { session, told: None }) };
        server.configure(&ServerConfig::default()).await?;
        Ok(server)
    }
}

/// All files for this configuration; `rules` in place of the deployment's pg_hba.conf.
pub(super) fn files(
    shared: &Shared,
    key: ServerKey,
    paths: &Paths,
    config: &ServerConfig,
    rules: Option<&str>,
) -> Result<Vec<ConfigFile>, ConfigError> {
    let mut files = shared.options.configurator.files(key, config, paths)?;
    if let Some(rules) = rules {
        let path = paths.data.join(HBA_FILE);
        files.retain(|file| file.path != path);
        files.push(ConfigFile::of_server(path, rules, 0o600));
    }
    files.push(main_file(key, paths));
    Ok(files)
}

#[async_trait]
impl Placed for PostgresServer {
    fn place(&self) -> &Place {
        &self.place
    }

    fn process_state(&self) -> ProcessState {
        self.state.try_lock().map_or(ProcessState::Down, |mut state| ProcessState::of(&mut state.child))
    }

    async fn settings(&self) -> Vec<EvidenceFile> {
        let generation = self.state.lock().await.generation;
        let mut admin = self.admin.lock().await;
        let Admin { session, told } = &mut *admin;
        // Cases that share a configuration share what is said of it.
        if let Some((_, files)) = told.as_ref().filter(|(of, _)| *of == generation) {
            return files.clone();
        }
        let files = settings::ask(session).await;
        *told = Some((generation, files.clone()));
        files
    }

    async fn configure(&self, config: &ServerConfig) -> Result<(), EnvironmentError> {
        let mut state = self.state.lock().await;
        let State { child, written, generation, applied } = &mut *state;
        if let Some(status) = child.try_wait() {
            return Err(self.place.lost(status).await);
        }
        if applied.as_ref() == Some(config) {
            return Ok(());
        }
        // Until it is surely there, also if this call is broken off.
        *applied = None;
        *generation += 1;
        let (shared, place) = (&self.shared, &self.place);
        let paths = Paths { generation: *generation, ..place.paths.clone() };
        let files = files(shared, place.key, &paths, config, None).map_err(|error| place.not_configured(error))?;
        written.bring_to(files, place.machine.as_ref()).await.map_err(|error| place.not_configured(error))?;
        match reload(shared, place, child, *generation).await? {
            None => {
                *applied = Some(config.clone());
                Ok(())
            }
            Some(objection) => Err(place.not_configured(ConfigureCause::Objection(objection))),
        }
    }
}

#[async_trait]
impl Instance for PostgresServer {
    async fn stop(&self) {
        self.state.lock().await.child.stop(STOP_LIMIT).await;
        self.place.close().await;
    }
}
