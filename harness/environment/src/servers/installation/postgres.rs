//! The PostgreSQL of an installation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::super::configure::{ConfigFile, Paths};
use super::super::instance::{LogPosition, Place, Placed as _, PortTries, StartError};
use super::super::machine;
use super::super::postgres::admin::{Later, end_client_sessions, end_wal_senders, prepare_application};
use super::super::postgres::process::{main_file, reload, start_once};
use super::super::postgres::settings;
use super::super::shared::Shared;
use super::super::written::Written;
use super::server::{FilesAt, Installed, Parts, Process};
use crate::error::{EnvironmentError, Failure, MachineError, StartCause};
use crate::{Applied, EvidenceFile};
use deployment::postgres::{self, ReplicaPlaces};
use model::server::ServerKey;
use serverlog::JsonLog;

/// The file that makes a server a standby: PostgreSQL manual, "Log-Shipping Standby Servers".
const STANDBY_SIGNAL: &str = "standby.signal";

/// A PostgreSQL that its installation changes.
pub(super) struct InstalledPostgres {
    parts: Parts,
    /// The directory of its programs.
    bin: PathBuf,
    /// Its primary, where it is a replica.
    follows: Option<Follows>,
    main: Mutex<Main>,
}

/// What a replica follows. Both come from one prepared data directory, and the primary still has all that was written since.
#[derive(Debug, Clone)]
pub(super) struct Follows {
    /// Where the primary is.
    pub(super) primary: SocketAddr,
    /// The Cluster's name, from which the primary's host name and the replica's own name follow.
    pub(super) cluster: String,
}

/// The files around the deployment's, which every reload changes.
struct Main {
    written: Written,
    generation: u64,
}

impl InstalledPostgres {
    /// Starts the one whose files are at `name` below the run's directory.
    pub(super) async fn start(
        shared: Arc<Shared>,
        key: ServerKey,
        name: &str,
        follows: Option<Follows>,
        files: FilesAt<'_>,
    ) -> Result<Self, EnvironmentError> {
        let machine = shared.machine(key, name).await?;
        let started = async {
            let mut place = Place::make(&shared, Arc::clone(&machine), key, name, "server.log", "server.json", JsonLog).await?;
            let bin = machine.make_data(key.version.unwrap_or_default(), &place.paths.data).await?;
            let mut process = Process::default();
            let mut main = Main { written: Written::default(), generation: 1 };
            place.paths.generation = main.generation;
            let mut tries = PortTries::default();
            while process.child.is_none() {
                place.take_port()?;
                let failed = |error: MachineError| Failure::new(error, &place.log);
                let main_files = main_files(key, &place.paths, follows.as_ref());
                let files = files(&place.paths).map_err(|error| Failure::new(error, &place.log))?;
                process.write(files, machine.as_ref()).await.map_err(failed)?;
                main.written.bring_to(main_files, machine.as_ref()).await.map_err(failed)?;
                process.child = tries.result(start_once(&shared, &bin, &place).await)?;
            }
            Ok((bin, place, process, main))
        };
        let (bin, place, process, main) = started.await.map_err(|failure: Failure| failure.at_start_of(&key))?;
        if follows.is_none() {
            prepare_application(&shared, &place, Later::Asks).await.map_err(|source| {
                place.failure(LogPosition::default(), |said| StartCause::Application { source, said }).at_start_of(&key)
            })?;
        }
        let parts = Parts { shared, place, process: Mutex::new(process) };
        Ok(Self { parts, bin, follows, main: Mutex::new(main) })
    }

    /// Ends the WAL senders, and so the connections of replicas.
    pub(super) async fn disconnect_replicas(&self) -> Result<(), EnvironmentError> {
        let mut process = self.process().lock().await;
        self.running(&mut process).await?;
        let ended = end_wal_senders(self.place(), self.shared().options.reload_limit).await;
        ended.map_err(|error| self.place().not_configured(error))
    }
}

/// What the harness sets around the deployment's configuration, and what makes a replica one.
fn main_files(key: ServerKey, paths: &Paths, follows: Option<&Follows>) -> Vec<ConfigFile> {
    let mut main = main_file(key, paths);
    let mut files = Vec::new();
    if let Some(Follows { primary, cluster }) = follows {
        main.contents.extend(format!("include '{}'\n", postgres::OVERRIDE_FILE).into_bytes());
        let contents = postgres::override_conf(&ReplicaPlaces {
            host: &format!("{cluster}-rw"),
            address: *primary,
            certificates: &paths.certificates,
            application_name: &format!("{cluster}-2"),
        });
        files.push(ConfigFile::of_server(paths.data.join(postgres::OVERRIDE_FILE), contents, 0o600));
        files.push(ConfigFile::of_server(paths.data.join(STANDBY_SIGNAL), [], 0o600));
    }
    files.push(main);
    files
}

#[async_trait]
impl Installed for InstalledPostgres {
    fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Fast shutdown: sessions are ended with a message and the data directory is left in order.
    fn stop_signal(&self) -> Signal {
        Signal::SIGINT
    }

    async fn start_once(&self) -> Result<machine::Process, StartError> {
        start_once(self.shared(), &self.bin, self.place()).await
    }

    async fn reload(&self) -> Result<Applied, EnvironmentError> {
        let mut process = self.process().lock().await;
        let child = self.running(&mut process).await?;
        let mut main = self.main.lock().await;
        main.generation += 1;
        let paths = Paths { generation: main.generation, ..self.place().paths.clone() };
        let files = main_files(self.place().key, &paths, self.follows.as_ref());
        let written = main.written.bring_to(files, self.place().machine.as_ref()).await;
        written.map_err(|error| self.place().not_configured(error))?;
        let objection = reload(self.shared(), self.place(), child, main.generation).await?;
        Ok(Applied { objection })
    }

    async fn ask_settings(&self) -> Vec<EvidenceFile> {
        settings::open_and_ask(self.place()).await
    }

    async fn disconnect(&self) -> Result<(), EnvironmentError> {
        let mut process = self.process().lock().await;
        self.running(&mut process).await?;
        let ended = end_client_sessions(self.place(), self.shared().options.reload_limit).await;
        ended.map_err(|error| self.place().not_configured(error))
    }
}
