//! The pipe to one running program: requests out, answers in, told apart by their ids.

use std::collections::HashMap;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::process::{Input, Output, Process};
use super::program::Program;
use crate::DriverError;
use crate::protocol::{Answer, Greeting, Hello, MAX_CONCURRENCY, Operation, Outcome, PROTOCOL, Request};
use model::connect::{ConnectRequest, Password};
use model::driver::DriverInfo;
use model::observation::{ClientObservation, ClientOutcome};
use os::child::tail;

/// How much of a program's log an error shows.
const TAIL_LINES: usize = 15;

/// How much of a line that can't be read an error shows.
const SHOWN_CHARACTERS: usize = 300;

/// How long a program may take to end after its stop signal.
const STOP_LIMIT: Duration = Duration::from_secs(2);

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
}

enum Command {
    Line(Vec<u8>),
    CloseInput,
}

/// Operation for the program's end, and why.
struct Kill(String);

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
    end: Option<String>,
}

/// The slot belongs to the request until its answer is there, even when nobody waits for that any more.
struct InFlight {
    answer: oneshot::Sender<Result<Outcome, String>>,
    secret: Option<Password>,
    abandoned: bool,
    /// It opens a session, which must be closed again when nobody takes it.
    opens: bool,
    /// `None` for requests of an open session, of which each has one at a time: they don't wait behind connections that hang.
    slot: Option<OwnedSemaphorePermit>,
}

/// What became of a request.
type Reply = oneshot::Receiver<Result<Outcome, String>>;

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Starts the program and waits for its greeting.
    pub(super) async fn open(program: &Program) -> Result<(Self, DriverInfo), DriverError> {
        let (mut child, stdin, stdout) = Process::start(program).await.map_err(|reason| program.start_error(reason))?;
        let mut lines = BufReader::new(stdout).lines();
        let greeting = tokio::time::timeout(program.hello_limit, lines.next_line()).await;
        let hello = match greeting {
            Ok(Ok(Some(line))) => check_hello(&line, &program.name),
            Ok(Ok(None)) => Err("it closed its output before its greeting".to_owned()),
            Ok(Err(error)) => Err(format!("could not read its greeting: {error}")),
            Err(_) => Err(format!("no greeting within {:?}", program.hello_limit)),
        };
        let hello = match hello {
            Ok(hello) => hello,
            Err(reason) => {
                let status = end_of(&mut child).await;
                return Err(program.start_error(with_log(&reason, status, &child)));
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
        tokio::spawn(read(child, lines, kills, Arc::clone(&shared), Arc::clone(&slots), at_end, back));
        Ok((Self { shared, slots, to_writer, to_reader, ended, sessions: hello.sessions }, hello.driver))
    }

    /// Why the program has ended, if it has.
    pub(super) fn end(&self) -> Option<String> {
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

    /// Sends a request and waits for its answer, with its id; `None` if there was none within `limit` and `grace`, the reason if the
    /// program ended.
    pub(super) async fn request(&self, operation: Operation, limit: Duration, grace: Duration) -> Result<Option<(u64, Outcome)>, String> {
        let slot = match &operation {
            Operation::Connect(_) | Operation::Open(_) => match Arc::clone(&self.slots).acquire_owned().await {
                Ok(slot) => Some(slot),
                Err(_) => return Err(self.why_ended()),
            },
            Operation::Query(_) | Operation::Close(_) => None,
        };
        let (id, reply) = self.send(operation, limit, slot)?;
        match tokio::time::timeout(limit + grace, reply).await {
            Ok(Ok(answer)) => answer.map(|outcome| Some((id, outcome))),
            Ok(Err(_)) => Err(self.why_ended()),
            Err(_) => {
                self.abandon(id);
                Ok(None)
            }
        }
    }

    /// Sends a request without waiting for its answer.
    pub(super) fn send(&self, operation: Operation, limit: Duration, slot: Option<OwnedSemaphorePermit>) -> Result<(u64, Reply), String> {
        let (id, line, reply) = self.shared.enter(operation, limit, slot)?;
        // A writer that is gone means that the program ended: the reader then answers for it.
        let _ = self.to_writer.send(Command::Line(line));
        Ok((id, reply))
    }

    fn why_ended(&self) -> String {
        self.end().unwrap_or_else(|| "it is ending".to_owned())
    }

    /// Marks a request as hung. Once nothing but hung requests is left in all slots, the program is of no use any more and is stopped.
    fn abandon(&self, id: u64) {
        let mut table = self.shared.table();
        if let Some(request) = table.in_flight.get_mut(&id) {
            request.abandoned = true;
        }
        let hangs = |request: &InFlight| request.abandoned || request.slot.is_none();
        if self.slots.available_permits() == 0 && table.in_flight.values().all(hangs) {
            let _ = self.to_reader.send(Kill("it was stopped, since every request that it was given hangs".to_owned()));
        }
    }

    /// Closes the program's standard input and waits for its end; stops it after `limit`.
    pub(super) async fn close(&self, limit: Duration) {
        let mut ended = self.ended.clone();
        let _ = self.to_writer.send(Command::CloseInput);
        if tokio::time::timeout(limit, ended.wait_for(|ended| *ended)).await.is_err() {
            let _ = self.to_reader.send(Kill("it was stopped, since it did not end when its input was closed".to_owned()));
            // The reader kills it after STOP_LIMIT: this can't wait for ever.
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

fn check_hello(line: &str, name: &str) -> Result<Hello, String> {
    let Greeting::Hello(hello) =
        serde_json::from_str(line).map_err(|error| format!("its first line is no greeting: {error}; the line: {}", shown(line)))?;
    if hello.protocol != PROTOCOL {
        return Err(format!("it speaks version {} of the protocol, and this harness version {PROTOCOL}", hello.protocol));
    }
    if hello.driver.name != name {
        return Err(format!("it calls itself `{}`, and `{name}` was expected", hello.driver.name));
    }
    if hello.concurrency == 0 || hello.concurrency > MAX_CONCURRENCY {
        return Err(format!("it announces a concurrency of {}; from 1 to {MAX_CONCURRENCY} is allowed", hello.concurrency));
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
    mut child: Process,
    mut lines: Lines<BufReader<Output>>,
    mut kills: mpsc::UnboundedReceiver<Kill>,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
    at_end: watch::Sender<bool>,
    to_writer: mpsc::WeakUnboundedSender<Command>,
) {
    let reason = loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => match shared.take(&line) {
                    Ok(None) => {}
                    Ok(Some(session)) => shared.close_unwanted(session, &to_writer),
                    Err(reason) => break reason,
                },
                Ok(None) => break "it closed its output".to_owned(),
                Err(error) => break format!("its output can't be read: {error}"),
            },
            Some(Kill(reason)) = kills.recv() => break reason,
        }
    };
    let status = end_of(&mut child).await;
    let reason = with_log(&reason, status, &child);
    slots.close();
    let in_flight = {
        let mut table = shared.table();
        let secrets: Vec<_> = table.in_flight.values().filter_map(|request| request.secret.clone()).collect();
        table.end = Some(redacted(&reason, &secrets));
        std::mem::take(&mut table.in_flight)
    };
    let reason = shared.table().end.clone().unwrap_or_default();
    for request in in_flight.into_values() {
        // Nobody waits for an abandoned one.
        let _ = request.answer.send(Err(reason.clone()));
    }
    let _ = at_end.send(true);
}

impl Shared {
    /// Puts a request among those in flight: its id, its line, and where its answer comes.
    fn enter(&self, operation: Operation, limit: Duration, slot: Option<OwnedSemaphorePermit>) -> Result<(u64, Vec<u8>, Reply), String> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (secret, opens) = (secret(&operation).cloned(), matches!(operation, Operation::Open(_)));
        let line = serde_json::to_vec(&Request { id, limit_ms, operation });
        let mut line = line.map_err(|error| format!("the request can't be written as JSON: {error}"))?;
        line.push(b'\n');
        let (answer, reply) = oneshot::channel();
        let mut table = self.table();
        if let Some(reason) = &table.end {
            return Err(reason.clone());
        }
        table.in_flight.insert(id, InFlight { answer, secret, abandoned: false, opens, slot });
        Ok((id, line, reply))
    }

    /// Closes a session that was opened for somebody who no longer waits for it.
    fn close_unwanted(&self, session: u64, to_writer: &mpsc::WeakUnboundedSender<Command>) {
        if let Ok((_, line, _)) = self.enter(Operation::Close(session), STOP_LIMIT, None)
            && let Some(to_writer) = to_writer.upgrade()
        {
            // Without a writer the program is ending, and its sessions with it.
            let _ = to_writer.send(Command::Line(line));
        }
    }

    /// Takes in one line; the reason if it makes no sense. Gives the session that it opened for nobody, if it did.
    fn take(&self, line: &str) -> Result<Option<u64>, String> {
        let mut table = self.table();
        let secrets: Vec<_> = table.in_flight.values().filter_map(|request| request.secret.clone()).collect();
        let line = redacted(line, &secrets);
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|error| format!("it wrote a line that is no answer: {error}; the line: {}", shown(&line)))?;
        let Some(request) = table.in_flight.remove(&answer.id) else {
            return Err(format!("it answered request {}, which is not in flight", answer.id));
        };
        self.answers.fetch_add(1, Ordering::Relaxed);
        // Nobody waits for an abandoned one.
        let unwanted = request.answer.send(Ok(answer.result)).err();
        let session =
            |outcome: &Outcome| matches!(outcome, Outcome::Observation(ClientObservation { outcome: ClientOutcome::Session(_), .. }));
        Ok(unwanted.is_some_and(|reply| request.opens && reply.is_ok_and(|outcome| session(&outcome))).then_some(answer.id))
    }
}

/// Stops the child if it has not ended by itself.
async fn end_of(child: &mut Process) -> Option<ExitStatus> {
    // A program that crashes closes its output a moment before its status can be had.
    if let Ok(Ok(status)) = tokio::time::timeout(Duration::from_millis(500), child.wait()).await {
        return Some(status);
    }
    child.stop(STOP_LIMIT).await
}

fn with_log(reason: &str, status: Option<ExitStatus>, child: &Process) -> String {
    let status = status.map_or_else(|| "how it ended is unknown".to_owned(), |status| status.to_string());
    let log = child.log();
    let tail = tail(log, TAIL_LINES);
    let tail = if tail.trim().is_empty() { "(empty)".to_owned() } else { tail };
    format!("{reason} ({status}); the end of its log {}:\n{tail}", log.display())
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
