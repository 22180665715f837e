//! The pipe to one running program: requests out, answers in, told apart by their ids.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::limits::ProgramLimits;
use super::process::{Input, Output, Process};
use super::program::Program;
use crate::error::{BrokenError, DriverError, ExchangeError, GreetingError, ProgramEnd, StartError};
use crate::protocol::{Answer, Greeting, Hello, MAX_CONCURRENCY, Operation, Outcome, PROTOCOL, Request};
use model::connect::{ConnectRequest, Password};
use model::driver::DriverInfo;
use model::observation::{ClientObservation, ClientOutcome};
use os::child::tail;

/// How much of a program's log an error shows.
const TAIL_LINES: usize = 15;

/// How much of a line that can't be read an error shows.
const SHOWN_CHARACTERS: usize = 300;

/// How long a program may take to end by itself once it has closed its output: one that crashes does that a moment before its status can
/// be had.
const EXIT_LIMIT: Duration = Duration::from_millis(500);

/// The shortest password that is cut out of a program's output; shorter ones are made-up wrong ones, and cutting them could hit anything.
const SHORTEST_SECRET: usize = 8;

/// One life of a program.
pub(super) struct Connection {
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    to_writer: mpsc::UnboundedSender<Command>,
    to_reader: mpsc::UnboundedSender<Kill>,
    ended: watch::Receiver<bool>,
    sessions: bool,
    limits: ProgramLimits,
}

enum Command {
    Line(Vec<u8>),
    CloseInput,
}

/// Asks for the program's end, and says why.
struct Kill(ExchangeError);

#[derive(Default)]
struct Shared {
    table: Mutex<Table>,
    next_id: AtomicU64,
    answers: AtomicU64,
}

/// Requests in flight, and why there are none any more.
#[derive(Default)]
struct Table {
    in_flight: HashMap<u64, InFlight>,
    end: Option<Arc<BrokenError>>,
}

/// The slot belongs to the request until its answer is there, even when nobody waits for that any more.
struct InFlight {
    answer: oneshot::Sender<Result<Outcome, Arc<BrokenError>>>,
    secret: Option<Password>,
    abandoned: bool,
    /// It opens a session, which must be closed again when nobody takes it.
    opens: bool,
    /// `None` for requests of an open session, of which each has one at a time: they don't wait behind connections that hang.
    slot: Option<OwnedSemaphorePermit>,
}

/// What became of a request.
type Reply = oneshot::Receiver<Result<Outcome, Arc<BrokenError>>>;

impl Table {
    /// The passwords of the requests in flight.
    fn secrets(&self) -> Vec<Password> {
        self.in_flight.values().filter_map(|request| request.secret.clone()).collect()
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Starts the program and waits for its greeting.
    pub(super) async fn open(program: &Program) -> Result<(Self, DriverInfo), DriverError> {
        let limits = program.limits;
        let (mut child, stdin, stdout) =
            Process::start(program).await.map_err(|source| program.start_error(|command| StartError::Spawn { command, source }))?;
        let mut lines = BufReader::new(stdout).lines();
        let greeting = tokio::time::timeout(limits.hello, lines.next_line()).await;
        let hello = match greeting {
            Ok(Ok(Some(line))) => check_hello(&line, &program.name),
            Ok(Ok(None)) => Err(GreetingError::OutputClosed),
            Ok(Err(error)) => Err(GreetingError::Unreadable(error)),
            Err(_) => Err(GreetingError::Silent { limit: limits.hello }),
        };
        let hello = match hello {
            Ok(hello) => hello,
            Err(source) => {
                let end = end_of(&mut child, limits).await;
                return Err(program.start_error(|command| StartError::Greeting { command, source, end }));
            }
        };
        let shared = Arc::new(Shared::default());
        let slots = Arc::new(Semaphore::new(hello.concurrency as usize));
        let (to_writer, commands) = mpsc::unbounded_channel();
        let (to_reader, kills) = mpsc::unbounded_channel();
        let (at_end, ended) = watch::channel(false);
        tokio::spawn(write(stdin, commands));
        // Weak: the program's input is closed when the last user of this connection is gone.
        let back = to_writer.downgrade();
        tokio::spawn(read((child, limits), lines, kills, Arc::clone(&shared), Arc::clone(&slots), at_end, back));
        Ok((Self { shared, slots, to_writer, to_reader, ended, sessions: hello.sessions, limits }, hello.driver))
    }

    /// Why the program has ended, if it has.
    pub(super) fn end(&self) -> Option<Arc<BrokenError>> {
        self.shared.table().end.clone()
    }

    /// How many answers it has given.
    pub(super) fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Relaxed)
    }

    /// Whether it keeps sessions.
    pub(super) fn sessions(&self) -> bool {
        self.sessions
    }

    /// How long its program is waited for.
    pub(super) fn limits(&self) -> ProgramLimits {
        self.limits
    }

    /// Sends a request and waits for its answer, with its id; `None` if there was none within `limit` and some grace.
    ///
    /// # Errors
    /// The program has ended, or can't be given the request.
    pub(super) async fn request(&self, operation: Operation, limit: Duration) -> Result<Option<(u64, Outcome)>, Arc<BrokenError>> {
        let slot = match &operation {
            Operation::Connect(_) | Operation::Open(_) => match Arc::clone(&self.slots).acquire_owned().await {
                Ok(slot) => Some(slot),
                Err(_) => return Err(self.why_ended()),
            },
            Operation::Query(_) | Operation::Close(_) => None,
        };
        let (id, reply) = self.send(operation, limit, slot)?;
        match tokio::time::timeout(limit + self.limits.grace, reply).await {
            Ok(Ok(answer)) => answer.map(|outcome| Some((id, outcome))),
            Ok(Err(_)) => Err(self.why_ended()),
            Err(_) => {
                self.abandon(id);
                Ok(None)
            }
        }
    }

    /// Sends a request without waiting for its answer.
    pub(super) fn send(
        &self,
        operation: Operation,
        limit: Duration,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<(u64, Reply), Arc<BrokenError>> {
        let (id, line, reply) = self.shared.enter(operation, limit, slot)?;
        // A writer that is gone means that the program ended: the reader then answers for it.
        let _ = self.to_writer.send(Command::Line(line));
        Ok((id, reply))
    }

    fn why_ended(&self) -> Arc<BrokenError> {
        self.end().unwrap_or_else(|| BrokenError::Ending.into())
    }

    /// Marks a request as hung. Once nothing but hung requests is left in all slots, the program is of no use any more and is stopped.
    fn abandon(&self, id: u64) {
        let mut table = self.shared.table();
        if let Some(request) = table.in_flight.get_mut(&id) {
            request.abandoned = true;
        }
        // Requests of open sessions take no slot: one that is under way is no reason to keep a program that nobody can connect with.
        let hangs = |request: &InFlight| request.abandoned || request.slot.is_none();
        if self.slots.available_permits() == 0 && table.in_flight.values().all(hangs) {
            let _ = self.to_reader.send(Kill(ExchangeError::EveryRequestHangs));
        }
    }

    /// Closes the program's standard input and waits for its end; stops it where that does not come in time.
    pub(super) async fn close(&self) {
        let mut ended = self.ended.clone();
        let _ = self.to_writer.send(Command::CloseInput);
        if tokio::time::timeout(self.limits.close, ended.wait_for(|ended| *ended)).await.is_err() {
            let _ = self.to_reader.send(Kill(ExchangeError::InputEndIgnored));
            // The reader kills it soon after its stop signal: this can't wait for ever.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

fn secret(operation: &Operation) -> Option<&Password> {
    let password = match operation {
        Operation::Connect(ConnectRequest::Postgres(request)) | Operation::Open(ConnectRequest::Postgres(request)) => {
            request.password.as_ref()
        }
        Operation::Connect(ConnectRequest::Redis(request)) | Operation::Open(ConnectRequest::Redis(request)) => request.password.as_ref(),
        Operation::Query(_) | Operation::Close(_) => None,
    };
    password.filter(|password| password.reveal().len() >= SHORTEST_SECRET)
}

fn check_hello(line: &str, name: &str) -> Result<Hello, GreetingError> {
    let Greeting::Hello(hello) = serde_json::from_str(line).map_err(|source| GreetingError::NoGreeting { source, line: shown(line) })?;
    if hello.protocol != PROTOCOL {
        return Err(GreetingError::Protocol { found: hello.protocol });
    }
    if hello.driver.name != name {
        return Err(GreetingError::Name { found: hello.driver.name, expected: name.to_owned() });
    }
    if hello.concurrency == 0 || hello.concurrency > MAX_CONCURRENCY {
        return Err(GreetingError::Concurrency { found: hello.concurrency });
    }
    Ok(hello)
}

async fn write(mut stdin: Input, mut commands: mpsc::UnboundedReceiver<Command>) {
    while let Some(Command::Line(line)) = commands.recv().await {
        if stdin.write_all(&line).await.is_err() {
            // The program is gone: the reader sees it, and tells.
            return;
        }
    }
}

/// Reads answers until the program's output ends, then waits for the program itself and tells everyone who still waits.
async fn read(
    (mut child, limits): (Process, ProgramLimits),
    mut lines: Lines<BufReader<Output>>,
    mut kills: mpsc::UnboundedReceiver<Kill>,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    at_end: watch::Sender<bool>,
    to_writer: mpsc::WeakUnboundedSender<Command>,
) {
    let source = loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => match shared.take(&line) {
                    Ok(None) => {}
                    Ok(Some(session)) => shared.close_unwanted(session, limits.stop, &to_writer),
                    Err(source) => break source,
                },
                Ok(None) => break ExchangeError::OutputClosed,
                Err(error) => break ExchangeError::Unreadable(error),
            },
            Some(Kill(source)) = kills.recv() => break source,
        }
    };
    let mut end = end_of(&mut child, limits).await;
    // Before the table is emptied: whoever waits for a slot must not get one of a program that is gone.
    slots.close();
    let (error, in_flight) = {
        let mut table = shared.table();
        end.tail = redacted(&end.tail, &table.secrets());
        let error = Arc::new(BrokenError::Ended { source, end });
        table.end = Some(Arc::clone(&error));
        (error, std::mem::take(&mut table.in_flight))
    };
    for request in in_flight.into_values() {
        // Nobody waits for an abandoned one.
        let _ = request.answer.send(Err(Arc::clone(&error)));
    }
    let _ = at_end.send(true);
}

impl Shared {
    /// Puts a request among those in flight: its id, its line, and where its answer comes.
    fn enter(
        &self,
        operation: Operation,
        limit: Duration,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<(u64, Vec<u8>, Reply), Arc<BrokenError>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (secret, opens) = (secret(&operation).cloned(), matches!(operation, Operation::Open(_)));
        let line = serde_json::to_vec(&Request { id, limit_ms, operation });
        let mut line = line.map_err(BrokenError::Request)?;
        line.push(b'\n');
        let (answer, reply) = oneshot::channel();
        let mut table = self.table();
        if let Some(error) = &table.end {
            return Err(Arc::clone(error));
        }
        table.in_flight.insert(id, InFlight { answer, secret, abandoned: false, opens, slot });
        Ok((id, line, reply))
    }

    /// Closes a session that was opened for somebody who no longer waits for it.
    fn close_unwanted(&self, session: u64, limit: Duration, to_writer: &mpsc::WeakUnboundedSender<Command>) {
        if let Ok((_, line, _)) = self.enter(Operation::Close(session), limit, None)
            && let Some(to_writer) = to_writer.upgrade()
        {
            // Without a writer the program is ending, and its sessions with it.
            let _ = to_writer.send(Command::Line(line));
        }
    }

    /// Takes in one line. Gives the session that it opened for nobody, if it did.
    fn take(&self, line: &str) -> Result<Option<u64>, ExchangeError> {
        let mut table = self.table();
        // Before it is parsed: an error of the parser may quote the line.
        let line = redacted(line, &table.secrets());
        let answer: Answer = serde_json::from_str(&line).map_err(|source| ExchangeError::NoAnswer { source, line: shown(&line) })?;
        let Some(request) = table.in_flight.remove(&answer.id) else {
            return Err(ExchangeError::UnknownRequest { id: answer.id });
        };
        self.answers.fetch_add(1, Ordering::Relaxed);
        // Nobody waits for an abandoned one.
        let unwanted = request.answer.send(Ok(answer.result)).err();
        let session =
            |outcome: &Outcome| matches!(outcome, Outcome::Observation(ClientObservation { outcome: ClientOutcome::Session(_), .. }));
        Ok(unwanted.is_some_and(|reply| request.opens && reply.is_ok_and(|outcome| session(&outcome))).then_some(answer.id))
    }
}

/// Stops the child if it has not ended by itself. What its log holds may name passwords that it was given.
async fn end_of(child: &mut Process, limits: ProgramLimits) -> ProgramEnd {
    let status = match tokio::time::timeout(EXIT_LIMIT.min(limits.stop), child.wait()).await {
        Ok(Ok(status)) => Some(status),
        _ => child.stop(limits.stop).await,
    };
    ProgramEnd { status, log: child.log().to_path_buf(), tail: tail(child.log(), TAIL_LINES) }
}

fn redacted(text: &str, secrets: &[Password]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.reveal(), "***"))
}

fn shown(line: &str) -> String {
    let mut shown: String = line.chars().take(SHOWN_CHARACTERS).collect();
    if shown.len() < line.len() {
        shown.push_str(" ...");
    }
    shown
}
