//! What the two kinds of server have in common: their place in the run directory, their log, and how their end is told.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::configure::Paths;
use super::evidence;
use super::machine::{Directories, Machine, Process};
use super::manifest::REDIS_CONF;
use super::shared::Shared;
use crate::error::{ConfigureCause, Failure, LostCause, MachineError, StartCause};
use crate::{CommandError, EnvironmentError, EvidenceFile, Server};
use deployment::redis_conf;
use model::connect::Password;
use model::endpoint::Address;
use model::observation::LogLine;
use model::server::{ServerConfig, ServerKey, Service};
use os::child::{ChildSpec, tail_since};
use os::command::CommandRun;
use os::dial::Dialer;
use serverlog::{LogCondition, LogIndex, Parser, Tailer, quote};

/// What the servers of this environment differ in; the rest of [`Server`] follows from their place.
#[async_trait]
pub(super) trait Placed: Send + Sync {
    /// Its directories, machine, port and log.
    fn place(&self) -> &Place;

    /// Does what [`Server::apply`] promises.
    async fn configure(&self, config: &ServerConfig) -> Result<(), EnvironmentError>;

    /// Its effective settings, as it tells them.
    async fn settings(&self) -> Vec<EvidenceFile>;

    /// How its process is. Does not wait for whoever works on it, and who finds out by himself: it is [`ProcessState::Down`] meanwhile.
    fn process_state(&self) -> ProcessState;
}

/// How a server's process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProcessState {
    /// It runs, or is paused.
    Up,
    /// The harness has stopped it.
    Down,
    /// It has ended by itself.
    Ended(ExitStatus),
}

impl ProcessState {
    /// That of a process which should run.
    pub(super) fn of(process: &mut Process) -> Self {
        process.try_wait().map_or(Self::Up, Self::Ended)
    }
}

#[async_trait]
impl<T: Placed> Server for T {
    fn address(&self) -> SocketAddr {
        self.place().address()
    }

    fn address_v6(&self) -> Option<SocketAddr> {
        self.place().address_v6()
    }

    fn plaintext_port(&self) -> Option<u16> {
        self.place().plaintext_port()
    }

    fn dialer(&self) -> Arc<dyn Dialer> {
        self.place().machine.dialer()
    }

    fn unix_socket(&self) -> Result<Option<Address>, MachineError> {
        self.place().clients_socket()
    }

    fn password(&self) -> Password {
        self.place().paths.password.clone()
    }

    fn log_names_clients(&self) -> bool {
        self.place().names_clients()
    }

    async fn log_lines(&self, peers: &[SocketAddr], enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        self.place().index.lines_of(peers, enough, limit).await
    }

    async fn apply(&self, config: &ServerConfig) -> Result<(), EnvironmentError> {
        self.configure(config).await
    }

    fn file(&self, name: &str) -> Option<PathBuf> {
        self.place().file(name)
    }

    fn own_file(&self, name: &str) -> Option<PathBuf> {
        self.place().own_file(name)
    }

    async fn openssl(&self, args: &[String], files: &[PathBuf], limit: Duration) -> Result<CommandRun, CommandError> {
        self.place().machine.openssl(args, files, limit).await
    }

    async fn evidence(&self) -> Vec<EvidenceFile> {
        let mut files = self.place().configuration();
        files.extend(self.settings().await);
        files
    }

    fn log_path(&self) -> PathBuf {
        self.place().log.clone()
    }

    fn log_mark(&self) -> u64 {
        self.place().index.mark()
    }

    async fn says_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        self.place().says_since(mark, enough, limit).await
    }

    async fn all_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        self.place().index.all_since(mark, enough, limit).await
    }

    async fn lost(&self) -> Option<EnvironmentError> {
        match self.process_state() {
            ProcessState::Up => self.place().unseen(),
            ProcessState::Down => None,
            ProcessState::Ended(status) => Some(self.place().lost(status).await),
        }
    }
}

/// A server that many cases share.
#[async_trait]
pub(super) trait Instance: Server + Placed {
    /// Stops it, and gives its machine back.
    async fn stop(&self);
}

/// Why one try to start ended.
pub(super) enum StartError {
    /// Another port may do.
    PortTaken(Failure),
    /// It ended by itself: what it said against its start, and the same as a failure.
    Ended(String, Failure),
    /// Another try would end the same way.
    Failed(Failure),
}

impl StartError {
    /// The failure, whichever it is.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::PortTaken(failure) | Self::Ended(_, failure) | Self::Failed(failure) => failure,
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What is said of a process that ended before it was ready.
pub(super) fn ended(command: String, status: io::Result<ExitStatus>, said: String) -> StartCause {
    match status {
        Ok(status) => StartCause::Ended { command, status, said },
        Err(error) => StartCause::Wait { command, source: Arc::new(error), said },
    }
}

/// How often another port is tried when one turns out to be taken.
pub(super) const PORT_TRIES: usize = 5;

/// The tries of one start: each takes a free port, but another process can take it before the server does.
#[derive(Default)]
pub(super) struct PortTries(usize);

impl PortTries {
    /// What came of one more try; `None` where another port may do, and is to be tried.
    ///
    /// # Errors
    /// The failure of a try that no other port would mend, or of the last of [`PORT_TRIES`].
    pub(super) fn result<T>(&mut self, started: Result<T, StartError>) -> Result<Option<T>, Failure> {
        self.0 += 1;
        match started {
            Ok(started) => Ok(Some(started)),
            Err(StartError::PortTaken(_)) if self.0 < PORT_TRIES => Ok(None),
            Err(error) => Err(error.into_failure()),
        }
    }
}

/// How long a server gets to stop in order before it is killed.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How long the last line of a server that ended by itself is waited for: it may have been killed and say nothing.
const LAST_LINE_LIMIT: Duration = Duration::from_millis(500);

/// How many lines of a log an error quotes.
const QUOTED_LINES: usize = 8;

/// A moment in what a server says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LogPosition {
    /// The number of the log's next line.
    pub(super) mark: u64,
    /// The length of its output so far.
    output: u64,
}

/// What PostgreSQL tells its output when its log collector begins: nothing against a start.
const COLLECTOR: [&str; 2] = ["redirecting log output to logging collector process", "Future log output will appear in directory"];

/// One server's place and log.
pub(super) struct Place {
    pub(super) key: ServerKey,
    pub(super) machine: Arc<dyn Machine>,
    pub(super) paths: Paths,
    /// Its standard output and error.
    pub(super) output: PathBuf,
    /// The file that the tailer follows.
    pub(super) log: PathBuf,
    pub(super) index: Arc<LogIndex>,
    /// Where the log of its last start begins.
    begun: AtomicU64,
    _tailer: Tailer,
    /// Brings the log here.
    _log: Box<dyn Send + Sync>,
}

impl Place {
    /// Makes the directories of the server `name` and the empty log `log_name` in them. `log_file` is what the server is told.
    pub(super) async fn make(
        shared: &Shared,
        machine: Arc<dyn Machine>,
        key: ServerKey,
        name: &str,
        log_file: &'static str,
        log_name: &str,
        parser: impl Parser + 'static,
    ) -> Result<Self, Failure> {
        let Directories { root, certificates, data, sockets, logs } = machine.directories(name);
        let log_there = logs.join(log_name);
        let (output, log) = (machine.here(&root.join("output.log")), machine.here(&log_there));
        for (path, mode, owned) in [(&root, 0o711, false), (&certificates, 0o755, false), (&sockets, 0o700, true), (&logs, 0o700, true)] {
            let made = machine.make_directory(path, mode, owned).await;
            made.map_err(|error| Failure::new(MachineError::file("make", path)(error), path))?;
        }
        // It exists before the server does, so that no line of it is missed.
        let kept = machine.make_log(&log_there).await;
        let kept = kept.map_err(|error| Failure::new(MachineError::file("make", &log_there)(error), &log))?;
        let index = Arc::new(LogIndex::default());
        let tailer =
            Tailer::follow(&log, parser, Arc::clone(&index)).map_err(|error| Failure::new(StartCause::Log(Arc::new(error)), &log))?;
        let paths = Paths {
            certificates,
            data,
            sockets,
            logs,
            log_file,
            listen: machine.listen(),
            port: 0,
            plaintext_port: 0,
            generation: 0,
            password: shared.password.clone(),
            networks: Arc::new(shared.machines.networks()),
        };
        Ok(Self { key, machine, paths, output, log, index, begun: AtomicU64::new(0), _tailer: tailer, _log: kept })
    }

    /// A child of this server's user that works in its data directory.
    pub(super) fn child(&self, program: impl Into<PathBuf>) -> ChildSpec {
        let user = self.machine.user().cloned();
        ChildSpec { user, directory: Some(self.paths.data.clone()), ..ChildSpec::new(program, &self.output) }
    }

    /// Starts a child of this server.
    pub(super) async fn spawn(&self, spec: ChildSpec) -> Result<Process, Failure> {
        self.machine.spawn(spec).await.map_err(|error| Failure::new(error, &self.output))
    }

    /// Takes a port that may be free.
    pub(super) fn take_port(&mut self) -> Result<(), Failure> {
        let port = self.machine.free_port(self.key.service);
        let no_port = |error| Failure::new(StartCause::NoPort(Arc::new(error)), &self.log);
        self.paths.port = port.map_err(no_port)?;
        if self.key.service == Service::Redis {
            self.paths.plaintext_port = self.machine.free_plaintext_port().map_err(no_port)?;
        }
        Ok(())
    }

    /// Ends its machine, where that is its alone.
    pub(super) async fn close(&self) {
        self.machine.close().await;
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.machine.address(self.paths.port)
    }

    pub(super) fn address_v6(&self) -> Option<SocketAddr> {
        self.machine.address_v6(self.paths.port)
    }

    /// See [`Server::plaintext_port`]: by the configuration that was written last.
    pub(super) fn plaintext_port(&self) -> Option<u16> {
        let text = std::fs::read_to_string(self.machine.here(&self.paths.data.join(REDIS_CONF))).ok()?;
        redis_conf::plaintext_port(&text).filter(|port| *port == self.paths.plaintext_port)
    }

    /// See [`Server::unix_socket`]: that of a PostgreSQL.
    pub(super) fn clients_socket(&self) -> Result<Option<Address>, MachineError> {
        match self.key.service {
            Service::Postgres => self.machine.clients_socket(&self.paths.sockets, self.paths.port).map(Some),
            Service::Redis => Ok(None),
        }
    }

    /// See [`Server::log_names_clients`]. Redis 7.0's log never does where a handshake is refused; 7.2 and later do where the client has not
    /// left yet, and say `addr=` with nothing else where it has (seen with 8.0.2 and clients that refuse the server's certificate).
    pub(super) fn names_clients(&self) -> bool {
        self.key.service == Service::Postgres
    }

    /// Where a gateway finds it.
    pub(super) fn address_for_gateway(&self) -> SocketAddr {
        self.machine.address_for_gateway(self.paths.port)
    }

    pub(super) fn file(&self, name: &str) -> Option<PathBuf> {
        let path = self.machine.here(&self.paths.certificates.join(name));
        (Path::new(name).components().count() == 1 && path.is_file()).then_some(path)
    }

    pub(super) fn own_file(&self, name: &str) -> Option<PathBuf> {
        self.file(name).map(|_| self.paths.certificates.join(name))
    }

    /// Its configuration files as they are.
    fn configuration(&self) -> Vec<EvidenceFile> {
        let names = evidence::configuration(self.key.service).iter();
        names.filter_map(|name| evidence::of_file(self.machine.as_ref(), &self.paths.data.join(name))).collect()
    }

    /// A start: how far log and output have come.
    pub(super) fn begin(&self) -> LogPosition {
        let now = self.now();
        self.begun.store(now.mark, Ordering::Relaxed);
        now
    }

    /// How far log and output have come.
    pub(super) fn now(&self) -> LogPosition {
        LogPosition { mark: self.index.mark(), output: std::fs::metadata(&self.output).map_or(0, |status| status.len()) }
    }

    /// A start that failed; `cause` gets the last lines that the server has written since.
    pub(super) fn failure(&self, since: LogPosition, cause: impl FnOnce(String) -> StartCause) -> Failure {
        let (log, said) = self.last_lines(since);
        Failure::new(cause(said), log)
    }

    /// Whether PostgreSQL's log collector began since then: only then more lines than those of the output are to come.
    pub(super) fn has_collector(&self, since: LogPosition) -> bool {
        tail_since(&self.output, since.output, QUOTED_LINES).contains(COLLECTOR[0])
    }

    /// What was said, each of its lines without time and process, so that it is the same every time.
    pub(super) fn said(&self, since: LogPosition) -> String {
        // PostgreSQL before its log collector runs: `2026-11-24 07:54:47.071 UTC [26470] FATAL:  could not load ...`.
        let without_prefix = |line: &str| line.split_once("] ").map_or(line, |(_, words)| words).replacen(":  ", ": ", 1);
        let output = tail_since(&self.output, since.output, QUOTED_LINES);
        let output = output.lines().map(without_prefix).filter(|line| !COLLECTOR.iter().any(|text| line.contains(text)));
        let lines = self.index.server_lines_since(since.mark);
        output.chain(lines.iter().map(quote)).collect::<Vec<_>>().join("\n")
    }

    /// A start that failed since the port was taken on one address at least, by the server's lines that say so.
    pub(super) fn port_taken(&self, command: &str, mark: u64) -> Option<Failure> {
        let lines = self.index.server_lines_since(mark);
        let said: Vec<String> = lines.iter().filter(|line| line.contains("Address already in use")).map(quote).collect();
        let (port, command) = (self.paths.port, command.to_owned());
        (!said.is_empty()).then(|| Failure::new(StartCause::PortTaken { port, command, said: said.join("; ") }, &self.log))
    }

    /// The lines since the mark that belong to no connection, as soon as `enough` holds for them and at `limit` at the latest.
    pub(super) async fn says_since(&self, mark: u64, enough: LogCondition<'_>, limit: Duration) -> Vec<LogLine> {
        let found = self.index.find_since(mark, |lines| enough(lines).then(|| lines.to_vec()));
        match tokio::time::timeout(limit, found).await {
            Ok(lines) => lines,
            Err(_) => self.index.server_lines_since(mark),
        }
    }

    /// A configuration that wasn't taken.
    pub(super) fn not_configured(&self, cause: impl Into<ConfigureCause>) -> EnvironmentError {
        EnvironmentError::Configure { server: self.key.to_string(), source: Box::new(cause.into()), log: self.log.clone() }
    }

    /// A server whose log can't be seen any more.
    pub(super) fn unseen(&self) -> Option<EnvironmentError> {
        Some(self.lost_by(self.machine.unseen_log()?))
    }

    /// A server that can't be used any more, which its log tells nothing of.
    pub(super) fn lost_by(&self, cause: LostCause) -> EnvironmentError {
        EnvironmentError::Lost { server: self.key.to_string(), source: Box::new(cause), log: self.log.clone() }
    }

    /// A server that has ended by itself.
    pub(super) async fn lost(&self, status: ExitStatus) -> EnvironmentError {
        self.await_shutdown(self.begun.load(Ordering::Relaxed), LAST_LINE_LIMIT).await;
        let (log, said) = self.last_lines(LogPosition::default());
        EnvironmentError::Lost { server: self.key.to_string(), source: Box::new(LostCause::Ended { status, said }), log }
    }

    /// After a server's end: its last line may still be on the way, through the logging collector and the tailer. PostgreSQL's says that
    /// it is shut down, after a FATAL, too (`UnlinkLockFiles` in miscinit.c); Redis's says good bye; one that was killed says nothing. Waits
    /// for it, `limit` at most, so that no line of this end is missing from its error or is taken for one of the next start.
    pub(super) async fn await_shutdown(&self, mark: u64, limit: Duration) {
        let end = self.index.find_since(mark, |lines| lines.iter().any(is_shut_down).then_some(()));
        let _ = tokio::time::timeout(limit, end).await;
    }

    /// The last lines of the log, or of the output where there are none in the log.
    fn last_lines(&self, since: LogPosition) -> (PathBuf, String) {
        let lines = self.index.server_lines_since(since.mark);
        if lines.is_empty() {
            let said = tail_since(&self.output, since.output, QUOTED_LINES);
            return (self.output.clone(), if said.is_empty() { "(nothing)".to_owned() } else { said });
        }
        let last: Vec<String> = lines[lines.len().saturating_sub(QUOTED_LINES)..].iter().map(quote).collect();
        (self.log.clone(), last.join("\n"))
    }
}

/// The last line of a server that ended by itself or was stopped in order.
fn is_shut_down(line: &LogLine) -> bool {
    line.message.ends_with("system is shut down") || line.message.ends_with("bye bye...")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(cause: StartCause) -> Failure {
        Failure::new(cause, Path::new("server.log"))
    }

    fn taken(port: u16) -> StartError {
        StartError::PortTaken(failure(StartCause::PortTaken { port, command: "server".to_owned(), said: "in use".to_owned() }))
    }

    #[test]
    fn another_port_is_tried_until_one_is_free_or_the_last_was_taken() {
        let mut tries = PortTries::default();
        assert!(matches!(tries.result(Err::<u8, _>(taken(1))), Ok(None)));
        assert!(matches!(tries.result(Ok(7)), Ok(Some(7))));

        let mut tries = PortTries::default();
        let results: Vec<_> = (1..).map(|port| tries.result(Err::<u8, _>(taken(port)))).take_while(Result::is_ok).collect();
        assert_eq!(results.len(), PORT_TRIES - 1);
    }

    #[test]
    fn a_start_that_fails_for_another_reason_is_not_tried_again() {
        let error = StartError::Failed(failure(StartCause::NoProgram("redis-server")));
        assert!(PortTries::default().result(Err::<u8, _>(error)).is_err());
    }
}
