//! One PostgreSQL server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::Mutex;

use super::configure::{ConfigFile, Written, quoted};
use super::instance::{Instance, PORT_TRIES, Place, STOP_LIMIT, StartError};
use super::log::JsonLog;
use super::{Failure, Paths, Prepared, Shared, reload};
use crate::environment::{EnvironmentError, LogCondition, Server};
use crate::model::connect::Password;
use crate::model::endpoint::Address;
use crate::model::observation::LogLine;
use crate::model::server::{Application, ServerConfig, ServerKey};
use crate::os::child::Child;
use crate::os::tree;

/// The main configuration file: it includes the deployment's.
const MAIN_FILE: &str = "harness.conf";

/// The file of client authentication rules.
const HBA_FILE: &str = "pg_hba.conf";

/// A running PostgreSQL.
pub(super) struct PostgresServer {
    shared: Arc<Shared>,
    place: Place,
    state: Mutex<State>,
}

/// What changes with every configuration.
struct State {
    child: Child,
    written: Written,
    generation: u64,
    /// The configuration that it surely has; `None` after a failure.
    applied: Option<ServerConfig>,
}

impl PostgresServer {
    /// Starts a server with the deployment's own configuration.
    pub(super) async fn start(shared: Arc<Shared>, key: ServerKey, prepared: &Prepared) -> Result<Self, EnvironmentError> {
        let server = async {
            let mut place = Place::make(&shared, key, "server.log", "server.json", JsonLog)?;
            copy_data(&shared, prepared, &place).await?;
            let mut last = None;
            for _ in 0..PORT_TRIES {
                place.paths.port = (shared.options.ports)(&place.paths.listen)
                    .map_err(|error| Failure::new(format!("could not find a free port: {error}"), &place.log))?;
                let mut written = Written::default();
                // Name and password of the application are set by the superuser over the private unix socket before the real rules hold.
                let rules = Some("local all all trust\n");
                write(&shared, key, &place.paths, &mut written, &ServerConfig::default(), rules)
                    .map_err(|reason| Failure::new(reason, &place.log))?;
                match start_once(&shared, prepared, &place).await {
                    Ok(child) => return Ok((place, State { child, written, generation: 0, applied: None })),
                    Err(StartError::PortTaken(failure)) => last = Some(failure),
                    Err(StartError::Failed(failure)) => return Err(failure),
                }
            }
            Err(last.unwrap_or_else(|| Failure::new("no port was tried", &place.log)))
        };
        let (place, state) = server.await.map_err(|failure: Failure| failure.at_start_of(key))?;
        prepare_application(&shared, &place).await.map_err(|reason| place.failure(&reason, 0).at_start_of(key))?;
        let server = Self { shared, place, state: Mutex::new(state) };
        server.apply(&ServerConfig::default()).await?;
        Ok(server)
    }
}

async fn copy_data(shared: &Shared, prepared: &Prepared, place: &Place) -> Result<(), Failure> {
    let (from, to, owner) = (prepared.template.clone(), place.paths.data.clone(), shared.options.user.clone());
    let copied = tokio::task::spawn_blocking(move || tree::copy(&from, &to, owner.as_ref())).await;
    match copied {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::new(format!("{error}; is the file system full?"), &place.paths.data)),
        Err(error) => Err(Failure::new(error.to_string(), &place.paths.data)),
    }
}

/// Writes all files for this configuration; `rules` in place of the deployment's pg_hba.conf.
fn write(
    shared: &Shared,
    key: ServerKey,
    paths: &Paths,
    written: &mut Written,
    config: &ServerConfig,
    rules: Option<&str>,
) -> Result<(), String> {
    let mut files = shared.options.configurator.files(key, config, paths)?;
    if let Some(rules) = rules {
        let path = paths.data.join(HBA_FILE);
        files.retain(|file| file.path != path);
        files.push(ConfigFile { path, contents: rules.as_bytes().to_vec(), mode: 0o600 });
    }
    files.push(ConfigFile { path: paths.data.join(MAIN_FILE), contents: main_file(key, paths).into_bytes(), mode: 0o644 });
    written.bring_to(files, shared.options.user.as_ref())
}

/// The main configuration file: speed first, which the deployment's file may override, and what the harness relies on last.
fn main_file(key: ServerKey, paths: &Paths) -> String {
    let version = key.version.unwrap_or_default();
    let addresses: Vec<String> = paths.listen.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        "# Written by mtls-conformance around the deployment's own postgresql.conf.".to_owned(),
        // Nothing here outlives the run, and few processes start faster.
        "fsync = off".to_owned(),
        "synchronous_commit = off".to_owned(),
        "full_page_writes = off".to_owned(),
        "autovacuum = off".to_owned(),
        "shared_buffers = 16MB".to_owned(),
        "huge_pages = off".to_owned(),
        "max_connections = 200".to_owned(),
        "max_logical_replication_workers = 0".to_owned(),
        "jit = off".to_owned(),
    ];
    if version >= 18 {
        lines.push("io_method = sync".to_owned());
    }
    lines.extend([
        "include 'postgresql.conf'".to_owned(),
        format!("listen_addresses = '{}'", addresses.join(",")),
        format!("port = {}", paths.port),
        format!("unix_socket_directories = {}", quoted(&paths.sockets)),
        "unix_socket_permissions = 0700".to_owned(),
        // In the data directory, so that it goes with the run directory even if the server is killed.
        "dynamic_shared_memory_type = mmap".to_owned(),
        "logging_collector = on".to_owned(),
        "log_destination = 'jsonlog'".to_owned(),
        format!("log_directory = {}", quoted(&paths.logs)),
        format!("log_filename = '{}'", paths.log_file),
        "log_file_mode = 0600".to_owned(),
        "log_rotation_age = 0".to_owned(),
        "log_rotation_size = 0".to_owned(),
        "log_timezone = 'UTC'".to_owned(),
        "log_min_messages = warning".to_owned(),
        "log_checkpoints = off".to_owned(),
        "log_connections = on".to_owned(),
        "log_disconnections = on".to_owned(),
        "log_hostname = off".to_owned(),
        // The password's statement must not be logged.
        "log_statement = none".to_owned(),
        "log_min_duration_statement = -1".to_owned(),
    ]);
    if version >= 17 {
        lines.push("trace_connection_negotiation = on".to_owned());
    }
    // A parameter that every reload changes: the postmaster logs the change.
    lines.push(format!("{} = {}", reload::GENERATION, paths.generation));
    lines.join("\n") + "\n"
}

async fn start_once(shared: &Shared, prepared: &Prepared, place: &Place) -> Result<Child, StartError> {
    let mark = place.book.mark();
    let mut spec = place.child(prepared.bin.join("postgres"), shared).arg("-D").arg(&place.paths.data).arg("-c");
    spec = spec.arg(format!("config_file={}", place.paths.data.join(MAIN_FILE).display()));
    // Immediate shutdown: it frees its shared memory, which SIGKILL would not, and takes 7 ms where a fast one takes 20. The data
    // directory is not used again.
    spec.stop_signal = Signal::SIGQUIT;
    let command = spec.command_line();
    let mut child = spec.spawn().await.map_err(|error| Failure::new(error.to_string(), &place.output))?;
    let ready = place.book.find_since(mark, |lines| lines.iter().any(|line| line.contains("ready to accept connections")).then_some(()));
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(shared.options.start_limit, ready) => outcome.map(|()| None),
        status = child.wait() => Ok(Some(status)),
    };
    match outcome {
        Ok(None) => match place.port_taken(&command, mark) {
            // It goes on with the other address where one is taken.
            Some(failure) => {
                child.stop(STOP_LIMIT).await;
                Err(StartError::PortTaken(failure))
            }
            None => Ok(child),
        },
        Ok(Some(status)) => {
            // Without a collector all was said to the output.
            if tokio::fs::read_to_string(&place.output).await.is_ok_and(|output| output.contains("logging collector")) {
                place.await_farewell(mark).await;
            }
            if let Some(failure) = place.port_taken(&command, mark) {
                return Err(StartError::PortTaken(failure));
            }
            let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            Err(place.failure(&format!("`{command}` ended early with {status}"), mark).into())
        }
        Err(_) => {
            child.stop(STOP_LIMIT).await;
            let limit = shared.options.start_limit;
            Err(place.failure(&format!("`{command}` was not ready within {limit:?}"), mark).into())
        }
    }
}

/// Gives the prepared user and database `app` the deployment's names, and the user its password.
async fn prepare_application(shared: &Shared, place: &Place) -> Result<(), String> {
    let Application { user, database } = shared.options.configurator.application();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut statements = Vec::new();
    if user != "app" {
        statements.push(format!("ALTER ROLE app RENAME TO {}", quoted(&user)));
    }
    if database != "app" {
        statements.push(format!("ALTER DATABASE app RENAME TO {}", quoted(&database)));
    }
    // Hexadecimal digits only: nothing to quote.
    statements.push(format!("ALTER ROLE {} PASSWORD '{}'", quoted(&user), shared.password.reveal()));
    let mut config = tokio_postgres::Config::new();
    config.host_path(&place.paths.sockets).port(place.paths.port).user("postgres").dbname("postgres");
    // A failed statement would be logged with its text.
    config.options("-c log_min_error_statement=panic").connect_timeout(shared.options.start_limit);
    let set = async {
        let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
        let connection = tokio::spawn(connection);
        for statement in &statements {
            client.batch_execute(statement).await?;
        }
        drop(client);
        let _ = connection.await;
        Ok::<(), tokio_postgres::Error>(())
    };
    match tokio::time::timeout(shared.options.start_limit, set).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(format!("role {user} could not be given its name and password over the unix socket: {error}{cause}"))
        }
        Err(_) => Err(format!("role {user} could not be given its name and password over the unix socket in time")),
    }
}

#[async_trait]
impl Server for PostgresServer {
    fn address(&self) -> SocketAddr {
        self.place.address()
    }

    fn address_v6(&self) -> Option<SocketAddr> {
        self.place.address_v6()
    }

    fn unix_socket(&self) -> Option<Address> {
        Some(Address::Unix { directory: self.place.paths.sockets.clone(), port: self.place.paths.port })
    }

    fn password(&self) -> Password {
        self.shared.password.clone()
    }

    async fn log_lines(&self, peers: &[SocketAddr], enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        self.place.book.lines_of(peers, enough, limit).await
    }

    async fn apply(&self, config: &ServerConfig) -> Result<(), EnvironmentError> {
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
        write(shared, place.key, &paths, written, config, None).map_err(|reason| place.not_configured(reason))?;
        let mark = place.book.mark();
        child.signal(Signal::SIGHUP);
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(shared.options.reload_limit, reload::taken(&place.book, mark, *generation, place.address())) => outcome,
            status = child.wait() => {
                return Err(match status {
                    Ok(status) => place.lost(status).await,
                    Err(error) => place.not_configured(format!("it could not be waited for: {error}")),
                });
            }
        };
        match outcome {
            Ok(Ok(())) => {
                *applied = Some(config.clone());
                Ok(())
            }
            Ok(Err(reason)) => Err(place.not_configured(reason)),
            Err(_) => {
                let limit = shared.options.reload_limit;
                Err(place.not_configured(format!("its log said nothing of the reload within {limit:?}")))
            }
        }
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.place.file(name)
    }

    fn log_path(&self) -> PathBuf {
        self.place.log.clone()
    }

    fn log_mark(&self) -> u64 {
        self.place.book.mark()
    }

    async fn says_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        self.place.says_since(mark, enough, limit).await
    }
}

#[async_trait]
impl Instance for PostgresServer {
    async fn lost(&self) -> Option<EnvironmentError> {
        // Whoever holds the state finds out by himself.
        let mut state = self.state.try_lock().ok()?;
        let status = state.child.try_wait()?;
        Some(self.place.lost(status).await)
    }

    async fn stop(&self) {
        self.state.lock().await.child.stop(STOP_LIMIT).await;
    }
}
