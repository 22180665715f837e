//! The harness's own clients behind the exec protocol: what lets them run in a container, and as another user than the harness.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::{Arc, Mutex as Table, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use super::pipe::{PipeError, greet, read_requests, write_line};
use super::protocol::{Answer, Operation, Outcome, Request};
use super::redis::RedisDriver;
use super::rustls::{RustlsDriver, RustlsOptions};
use super::{Driver, DriverError, HeldSession, Opened, Queried};
use model::driver::DriverInfo;
use model::observation::{ClientObservation, ClientOutcome, Phases};
use os::user::{BecomeError, RunAs};

/// The hidden subcommand that the client runs as.
pub const COMMAND: &str = "own-client";

/// Connections at once: they share a thread or two and wait most of the time.
const CONCURRENCY: u32 = 8;

/// The arguments of [`COMMAND`].
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ServedArgs {
    /// The library that is to connect.
    #[arg(long)]
    pub client: OwnClient,
    /// The driver's name, as scenarios know it.
    #[arg(long)]
    pub name: String,
    /// The user to become: UID:GID:GROUP,...
    #[arg(long)]
    pub run_as: Option<RunAs>,
}

/// A client that is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OwnClient {
    /// tokio-postgres over rustls: [`RustlsDriver`].
    Rustls,
    /// redis-rs over rustls: [`RedisDriver`].
    RedisRs,
}

/// Runs the client: greets, and answers requests until standard input ends. What goes wrong is told on standard error.
#[must_use]
pub fn main(args: &ServedArgs) -> ExitCode {
    let driver: Arc<dyn Driver> = match args.client {
        OwnClient::Rustls => Arc::new(RustlsDriver::new(RustlsOptions::default())),
        OwnClient::RedisRs => Arc::new(RedisDriver::new()),
    };
    let became = args.run_as.as_ref().map_or(Ok(()), RunAs::become_it).map_err(ServeError::from);
    let runtime = became.and_then(|()| tokio::runtime::Runtime::new().map_err(ServeError::Runtime));
    let served = runtime.and_then(|runtime| runtime.block_on(serve(driver, &args.name)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do if even standard error is closed.
            let _ = writeln!(std::io::stderr(), "own client: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The client could not go on.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    User(#[from] BecomeError),
    #[error("could not start its threads: {0}")]
    Runtime(#[source] std::io::Error),
    #[error(transparent)]
    Pipe(#[from] PipeError),
    #[error("a request's task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

async fn serve(driver: Arc<dyn Driver>, name: &str) -> Result<(), ServeError> {
    let info = DriverInfo { name: name.to_owned(), ..driver.info().clone() };
    greet(info, CONCURRENCY).map_err(PipeError::from)?;
    let client = Arc::new(Client { driver, open: Table::default() });
    let mut requests = requests();
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv() => {
                let Some(request) = request else { break };
                let request = request?;
                let client = Arc::clone(&client);
                running.spawn(async move { write_line(&client.answer(request).await) });
            }
            // A task that panicked leaves its request unanswered: end at once instead, so that the harness sees it.
            Some(ended) = running.join_next() => ended?.map_err(PipeError::from)?,
        }
    }
    while let Some(ended) = running.join_next().await {
        ended?.map_err(PipeError::from)?;
    }
    Ok(())
}

/// The requests of standard input, from a thread of its own: it ends with the input, or with the process.
fn requests() -> mpsc::UnboundedReceiver<Result<Request, PipeError>> {
    let (sender, requests) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        if let Err(error) = read_requests(|request| sender.send(Ok(request)).is_ok()) {
            // Nobody is there to be told where the client has ended.
            let _ = sender.send(Err(error));
        }
    });
    requests
}

type Held = Arc<Mutex<Option<Box<dyn HeldSession>>>>;

/// The client and its open sessions, by the ids of the requests that opened them.
struct Client {
    driver: Arc<dyn Driver>,
    open: Table<HashMap<u64, Held>>,
}

impl Client {
    async fn answer(&self, Request { id, limit_ms, operation }: Request) -> Answer {
        let limit = Duration::from_millis(limit_ms);
        let result = match operation {
            Operation::Connect(request) => self.driver.connect(&request, limit).await.map(Outcome::Observation),
            Operation::Open(request) => self.driver.open(&request, limit).await.map(|opened| match opened {
                Opened::Session(observation, session) => {
                    self.open().insert(id, Arc::new(Mutex::new(Some(session))));
                    Outcome::Observation(observation)
                }
                Opened::Refused(observation) => Outcome::Observation(observation),
            }),
            Operation::Query(session) => self.query(session, limit).await,
            Operation::Close(session) => Ok(self.close(session).await),
        };
        let result = result.unwrap_or_else(|error| match error {
            DriverError::Unable { source, .. } => Outcome::Unable(source.to_string()),
            other => Outcome::Error(other.to_string()),
        });
        Answer { id, result }
    }

    async fn query(&self, session: u64, limit: Duration) -> Result<Outcome, DriverError> {
        let Some(held) = self.open().get(&session).cloned() else { return Ok(unknown(session)) };
        let mut held = held.lock().await;
        let Some(open) = held.as_mut() else { return Ok(unknown(session)) };
        let queried = open.query(limit).await;
        if !matches!(queried, Ok(Queried::Answered)) {
            self.open().remove(&session);
        }
        queried.map(|queried| match queried {
            Queried::Answered => Outcome::Answered,
            Queried::Ended(refused) => Outcome::Observation(ClientObservation {
                phases: Phases::default(),
                outcome: ClientOutcome::Refused(refused),
                settings: std::collections::BTreeMap::new(),
            }),
        })
    }

    async fn close(&self, session: u64) -> Outcome {
        let Some(held) = self.open().remove(&session) else { return unknown(session) };
        // After the query that may still be under way.
        let open = held.lock().await.take();
        if let Some(open) = open {
            open.close().await;
        }
        Outcome::Closed
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Held>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(session: u64) -> Outcome {
    Outcome::Error(format!("no session {session} is open here: it was never opened, is closed, or had ended"))
}
