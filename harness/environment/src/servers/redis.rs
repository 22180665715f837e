//! One Redis server: TLS, and a port without it where its configuration opens one.
//!
//! A configuration is applied by a restart on the same port: Redis re-reads neither its file nor renewed certificates, `CONFIG SET` covers
//! only some settings, and a start without data takes some milliseconds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError};
use tokio::sync::Mutex;

use super::configure::Paths;
use super::evidence::{not_asked, of_text};
use super::instance::{Instance, Place, Placed, PortTries, ProcessState, STOP_LIMIT, StartError, ended};
use super::machine::Process;
use super::manifest::REDIS_CONF;
use super::shared::Shared;
use super::written::Written;
use crate::error::{Failure, MachineError, StartCause};
use crate::{EnvironmentError, EvidenceFile};
use model::server::{ServerConfig, ServerKey};
use os::child::tail_since;
use os::toolchain::Tool;
use serverlog::RedisLog;

/// A Redis that cases share: a restart brings it to the configuration of each.
pub(super) struct RedisServer {
    shared: Arc<Shared>,
    program: Tool,
    place: Place,
    state: Mutex<State>,
}

/// What changes with every configuration.
struct State {
    /// `None` after a restart that failed.
    child: Option<Process>,
    written: Written,
    generation: u64,
    /// The configuration that it surely has; `None` after a failure.
    applied: Option<ServerConfig>,
}

impl RedisServer {
    /// Starts a server with the deployment's own configuration.
    pub(super) async fn start(shared: Arc<Shared>, key: ServerKey) -> Result<Self, EnvironmentError> {
        let name = key.to_string();
        let machine = shared.machine(key, &name).await?;
        let server = async {
            let mut place = Place::make(&shared, Arc::clone(&machine), key, &name, "redis.log", "redis.log", RedisLog::default()).await?;
            let program = make_data(&place).await?;
            let mut tries = PortTries::default();
            loop {
                place.take_port()?;
                let mut written = Written::default();
                let config = ServerConfig::default();
                let files = shared.options.configurator.files(key, &config, &place.paths);
                let files = files.map_err(|error| Failure::new(error, &place.log))?;
                written.bring_to(files, machine.as_ref()).await.map_err(|error| Failure::new(error, &place.log))?;
                if let child @ Some(_) = tries.result(start_once(&shared, &program, &place).await)? {
                    return Ok((program, place, State { child, written, generation: 0, applied: Some(config) }));
                }
            }
        };
        let (program, place, state) = server.await.map_err(|failure: Failure| failure.at_start_of(&key))?;
        Ok(Self { shared, program, place, state: Mutex::new(state) })
    }
}

/// Makes its data directory; the program.
pub(super) async fn make_data(place: &Place) -> Result<Tool, Failure> {
    let data = &place.paths.data;
    let failed = |error: std::io::Error| Failure::new(MachineError::file("make", data)(error), &place.log);
    place.machine.make_directory(data, 0o700, true).await.map_err(failed)?;
    place.machine.redis().cloned().ok_or_else(|| Failure::new(StartCause::NoProgram("redis-server"), &place.log))
}

/// The unix socket that is for the harness alone: Redis wants no certificate there.
pub(super) fn admin_socket(place: &Place) -> PathBuf {
    place.paths.sockets.join("admin")
}

/// What decides who gets in, as patterns of `CONFIG GET`: those of all versions take one at a time.
const SETTINGS: [&str; 8] = ["tls-*", "port", "bind*", "protected-mode", "unixsocket*", "aclfile", "maxclients", "timeout"];

/// How long it may take to tell them: a server that hangs is not to hold up the next case.
const SETTINGS_LIMIT: Duration = Duration::from_secs(2);

/// What a Redis tells of its settings, as a file of its own form.
pub(super) async fn settings(place: &Place) -> Vec<EvidenceFile> {
    let asked = async {
        let password = RedisConnectionInfo::default().set_password(place.paths.password.reveal()).set_skip_set_lib_name();
        let mut connection = match open(place, &password).await {
            // A user's own lines may have made it a server without a password.
            Err(_) => open(place, &RedisConnectionInfo::default().set_skip_set_lib_name()).await?,
            opened => opened?,
        };
        let mut lines = String::new();
        for pattern in SETTINGS {
            let found: Vec<(String, String)> = redis::cmd("CONFIG").arg("GET").arg(pattern).query_async(&mut connection).await?;
            lines.extend(found.into_iter().map(|(name, value)| format!("{name} {value}\n")));
        }
        Ok::<_, RedisError>(lines)
    };
    vec![match tokio::time::timeout(SETTINGS_LIMIT, asked).await {
        Ok(Ok(lines)) => of_text("redis-settings.conf", &lines),
        Ok(Err(error)) => not_asked("its settings", error),
        Err(_) => not_asked("its settings", format_args!("no answer within {SETTINGS_LIMIT:?}")),
    }]
}

async fn open(place: &Place, settings: &RedisConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
    let stream = place.machine.unix(&admin_socket(place)).await?;
    let (connection, driver) = MultiplexedConnection::new_with_config(settings, stream, AsyncConnectionConfig::new()).await?;
    // It ends as the connection is dropped.
    tokio::spawn(driver);
    Ok(connection)
}

/// Starts it with its files as they are, and waits until it takes connections.
pub(super) async fn start_once(shared: &Shared, program: &Tool, place: &Place) -> Result<Process, StartError> {
    let since = place.begin();
    let mark = since.mark;
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |status| status.len());
    let before = (length(&place.log), length(&place.output));
    let paths = &place.paths;
    let mut spec = place.child(&program.path).arg(paths.data.join(REDIS_CONF));
    // Options of the command line come after the file's and win.
    let plaintext_port = place.plaintext_port().unwrap_or(0);
    spec = spec.arg("--port").arg(plaintext_port.to_string()).arg("--tls-port").arg(paths.port.to_string()).arg("--bind");
    spec = paths.listen.iter().fold(spec, |spec, address| spec.arg(address.to_string()));
    for (option, value) in [("--loglevel", "verbose"), ("--daemonize", "no"), ("--save", ""), ("--appendonly", "no")] {
        spec = spec.arg(option).arg(value);
    }
    spec = spec.arg("--logfile").arg(paths.logs.join(paths.log_file)).arg("--dir").arg(&paths.data);
    spec = spec.arg("--unixsocket").arg(admin_socket(place)).arg("--unixsocketperm").arg("700");
    // There is nothing to bring to an end: no data, no shared memory. SIGTERM would wait for the next tick of its clock.
    spec.stop_signal = Signal::SIGKILL;
    let command = spec.command_line();
    let mut child = place.spawn(spec).await?;
    let ready = place.index.find_since(mark, |lines| lines.iter().any(|line| line.contains("Ready to accept connections")).then_some(()));
    let outcome = tokio::select! {
        outcome = tokio::time::timeout(shared.options.start_limit, ready) => outcome.map(|()| None),
        status = child.wait() => Ok(Some(status)),
    };
    match outcome {
        Ok(None) => Ok(child),
        Ok(Some(_)) if child.is_lost() => Err(place.failure(since, |said| StartCause::Unobserved { command, said }).into()),
        Ok(Some(status)) => {
            // Written by the process itself, so it is all there now; the tailer may be some lines behind, and a copy from a container.
            let copied = place.machine.await_log(&paths.logs.join(paths.log_file), shared.options.reload_limit).await;
            copied.map_err(|error| Failure::new(error, &place.log))?;
            let said = [tail_since(&place.log, before.0, 8), tail_since(&place.output, before.1, 8)].join("\n");
            let log = if length(&place.log) > before.0 { &place.log } else { &place.output };
            let said = said.trim().to_owned();
            if said.contains("Address already in use") {
                return Err(StartError::PortTaken(Failure::new(StartCause::PortTaken { port: paths.port, command, said }, log)));
            }
            let objection = said.lines().map(without_prefix).collect::<Vec<_>>().join("\n");
            Err(StartError::Ended(objection, Failure::new(ended(command, status, said), log)))
        }
        Err(_) => {
            child.stop(STOP_LIMIT).await;
            let limit = shared.options.start_limit;
            Err(place.failure(since, |said| StartCause::NotReady { command, limit, said }).into())
        }
    }
}

/// A line of the log without process and time: `27121:M 24 Nov 2026 07:55:10.165 # Failed to load certificate`.
fn without_prefix(line: &str) -> &str {
    let prefixed = line.split_once(':').is_some_and(|(pid, _)| pid.parse::<u32>().is_ok());
    line.splitn(7, ' ').nth(6).filter(|_| prefixed).unwrap_or(line)
}

/// Whether this version's `CONFIG SET` takes several settings at once.
pub(super) fn sets_several(version: &str) -> bool {
    at_least(version, (7, 0))
}

fn at_least(version: &str, least: (u32, u32)) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= least
}

#[async_trait]
impl Placed for RedisServer {
    fn place(&self) -> &Place {
        &self.place
    }

    fn process_state(&self) -> ProcessState {
        self.state.try_lock().map_or(ProcessState::Down, |mut state| state.child.as_mut().map_or(ProcessState::Down, ProcessState::of))
    }

    async fn settings(&self) -> Vec<EvidenceFile> {
        settings(&self.place).await
    }

    async fn configure(&self, config: &ServerConfig) -> Result<(), EnvironmentError> {
        let mut state = self.state.lock().await;
        let State { child, written, generation, applied } = &mut *state;
        if let Some(status) = child.as_mut().and_then(Process::try_wait) {
            return Err(self.place.lost(status).await);
        }
        if applied.as_ref() == Some(config) {
            return Ok(());
        }
        *applied = None;
        *generation += 1;
        let paths = Paths { generation: *generation, ..self.place.paths.clone() };
        let files = self.shared.options.configurator.files(self.place.key, config, &paths);
        let files = files.map_err(|error| self.place.not_configured(error))?;
        written.bring_to(files, self.place.machine.as_ref()).await.map_err(|error| self.place.not_configured(error))?;
        if let Some(mut old) = child.take() {
            old.stop(STOP_LIMIT).await;
        }
        match start_once(&self.shared, &self.program, &self.place).await {
            Ok(new) => {
                *child = Some(new);
                *applied = Some(config.clone());
                Ok(())
            }
            Err(error) => Err(self.place.not_configured(error.into_failure().cause)),
        }
    }
}

#[async_trait]
impl Instance for RedisServer {
    async fn stop(&self) {
        if let Some(child) = &mut self.state.lock().await.child {
            child.stop(STOP_LIMIT).await;
        }
        self.place.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{sets_several, without_prefix};

    #[test]
    fn process_and_time_are_cut_off_and_what_has_none_stays() {
        // Redis 7.0.15.
        assert_eq!(without_prefix("27121:M 24 Nov 2026 07:55:10.165 # Failed to load private key: x"), "Failed to load private key: x");
        assert_eq!(without_prefix("*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***"), "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***");
    }

    #[test]
    fn config_set_takes_several_settings_from_7_0_on() {
        assert!(sets_several("7.0.15") && !sets_several("6.2.14"));
    }
}
