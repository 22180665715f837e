//! The process behind a PostgreSQL: its data directory, what the harness sets around the deployment's configuration, and its start.

use std::path::Path;
use std::sync::Arc;

use nix::sys::signal::Signal;

use super::super::configure::Paths;
use super::super::configure::{ConfigFile, quoted};
use super::super::instance::{Place, STOP_LIMIT, StartError, ended};
use super::super::machine::Process;
use super::super::reload;
use super::super::shared::Shared;
use crate::EnvironmentError;
use crate::error::{ConfigureCause, StartCause};
use model::server::ServerKey;

/// The main configuration file: it includes the deployment's.
const MAIN_FILE: &str = "harness.conf";

/// The main configuration file: speed first, which the deployment's file may override, and what the harness relies on last.
pub(in super::super) fn main_file(key: ServerKey, paths: &Paths) -> ConfigFile {
    let version = key.version.unwrap_or_default();
    let addresses: Vec<String> = paths.listen.iter().map(ToString::to_string).collect();
    let mut lines = vec![
        "# Written by mtls-conformance around the deployment's own postgresql.conf.".to_owned(),
        // Nothing here outlives the run, and few processes start faster.
        "fsync = off".to_owned(),
        "synchronous_commit = off".to_owned(),
        "full_page_writes = off".to_owned(),
        // A segment takes the room of what is in it, not more.
        "wal_init_zero = off".to_owned(),
        "wal_recycle = off".to_owned(),
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
        // For a replica that was away while the primary wrote and started again. CloudNativePG's default.
        "wal_keep_size = 512MB".to_owned(),
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
    ConfigFile::of_server(paths.data.join(MAIN_FILE), lines.join("\n") + "\n", 0o644)
}

/// Starts it with its files as they are, and waits until it takes connections: of a replica "read-only connections".
pub(in super::super) async fn start_once(shared: &Shared, bin: &Path, place: &Place) -> Result<Process, StartError> {
    let since = place.begin();
    let mark = since.mark;
    let mut spec = place.child(bin.join("postgres")).arg("-D").arg(&place.paths.data).arg("-c");
    spec = spec.arg(format!("config_file={}", place.paths.data.join(MAIN_FILE).display()));
    // Immediate shutdown: it frees its shared memory, which SIGKILL would not, and takes 7 ms where a fast one takes 20. Whoever uses the
    // data directory again stops it another way.
    spec.stop_signal = Signal::SIGQUIT;
    let command = spec.command_line();
    let mut child = place.spawn(spec).await?;
    let ready = place.index.find_since(mark, |lines| lines.iter().any(|line| line.contains("ready to accept")).then_some(()));
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(shared.options.start_limit, ready) => outcome.map(|()| None),
        status = child.wait() => Ok(Some(status)),
    };
    match outcome {
        Ok(None) => match place.port_taken(&command, mark) {
            // It goes on with the other address where one is taken.
            Some(failure) => {
                child.stop(STOP_LIMIT).await;
                place.await_shutdown(mark, shared.options.reload_limit).await;
                Err(StartError::PortTaken(failure))
            }
            None => Ok(child),
        },
        Ok(Some(_)) if child.is_lost() => Err(place.failure(since, |said| StartCause::Unobserved { command, said }).into()),
        Ok(Some(status)) => {
            // Without a collector all was said to the output.
            if place.has_collector(since) {
                place.await_shutdown(mark, shared.options.reload_limit).await;
            }
            if let Some(failure) = place.port_taken(&command, mark) {
                return Err(StartError::PortTaken(failure));
            }
            Err(StartError::Ended(place.said(since), place.failure(since, |said| ended(command, status, said))))
        }
        Err(_) => {
            child.stop(STOP_LIMIT).await;
            let limit = shared.options.start_limit;
            Err(place.failure(since, |said| StartCause::NotReady { command, limit, said }).into())
        }
    }
}

/// Tells a server whose main file holds this generation to read its files again, and returns when new connections see them: with what the
/// server says against them, if it goes on with what it had.
pub(in super::super) async fn reload(
    shared: &Shared,
    place: &Place,
    child: &mut Process,
    generation: u64,
) -> Result<Option<String>, EnvironmentError> {
    let mark = place.index.mark();
    child.signal(Signal::SIGHUP);
    let limit = shared.options.reload_limit;
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(limit, reload::taken(place, mark, generation)) => outcome,
        status = child.wait() => {
            return Err(match status {
                Ok(status) => place.lost(status).await,
                Err(error) => place.not_configured(ConfigureCause::Wait(Arc::new(error))),
            });
        }
    };
    outcome.unwrap_or(Err(ConfigureCause::Silent { limit })).map_err(|cause| place.not_configured(cause))
}
