//! libpq as a client: any `libpq.so`, loaded by a child process of ours that speaks the exec protocol.
//!
//! A child, since two versions of libpq and OpenSSL don't fit into one process, and since a crash in one of them must stay outside the harness.

mod library;
mod progress;
mod session;
mod sessions;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use crate::pipe::{PipeError, greet, read_requests, write_line};
use crate::protocol::{Answer, Request};
use model::driver::{DriverInfo, Family};
use model::server::Service;
use os::user::{BecomeError, RunAs};

use library::Libpq;
pub use library::LibraryError;
use sessions::Sessions;

/// The hidden subcommand that the child runs as.
pub const COMMAND: &str = "libpq-client";

/// Connections that one child makes at once. libpq may be used from several threads for distinct connections; more threads than this gained
/// nothing on two cores.
const CONCURRENCY: u32 = 4;

/// The arguments of [`COMMAND`].
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct ChildArgs {
    /// The libpq.so to load.
    #[arg(long)]
    pub library: PathBuf,
    /// The driver's name, as scenarios know it.
    #[arg(long)]
    pub name: String,
    /// The user to become once the library is loaded: UID:GID:GROUP,...
    #[arg(long)]
    pub run_as: Option<RunAs>,
}

/// The child could not go on.
#[derive(Debug, thiserror::Error)]
enum ChildFailure {
    /// The library is of no use.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// It may not change its user.
    #[error(transparent)]
    User(#[from] BecomeError),
    /// The harness is gone, or speaks something else.
    #[error(transparent)]
    Pipe(#[from] PipeError),
}

/// Runs the child: loads the library, greets, answers requests until standard input ends. What goes wrong is told on standard error.
#[must_use]
pub fn child_main(args: &ChildArgs) -> ExitCode {
    // A thread that panics would leave its request unanswered: end at once instead, so that the harness sees it.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    match serve(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to do if even standard error is closed.
            let _ = writeln!(std::io::stderr(), "libpq client: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn serve(args: &ChildArgs) -> Result<(), ChildFailure> {
    let library = Libpq::load(&args.library)?;
    if let Some(user) = &args.run_as {
        user.become_it()?;
    }
    let driver = info(&library, &args.name);
    greet(driver, CONCURRENCY).map_err(PipeError::from)?;
    let (sender, requests) = mpsc::channel::<Request>();
    let workers = Workers { sessions: Sessions::new(&library), requests: Mutex::new(requests), waiting: AtomicUsize::new(0) };
    std::thread::scope(|scope| {
        let read = read_requests(|request| {
            // Whoever waits takes this one. Where nobody does, one thread more is needed: as many as there were requests at once.
            if workers.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |waiting| waiting.checked_sub(1)).is_err() {
                scope.spawn(|| workers.work());
            }
            sender.send(request).is_ok()
        });
        // The threads end once the last request is taken.
        drop(sender);
        Ok(read?)
    })
}

/// What the threads share.
struct Workers<'a> {
    sessions: Sessions<'a>,
    requests: Mutex<mpsc::Receiver<Request>>,
    /// Threads that no request was read for yet.
    waiting: AtomicUsize,
}

impl Workers<'_> {
    fn work(&self) {
        loop {
            let next = self.requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Request { id, limit_ms, operation }) = next else { return };
            let result = self.sessions.serve(id, operation, Duration::from_millis(limit_ms));
            // Before the answer: the next request may follow it at once.
            self.waiting.fetch_add(1, Ordering::Relaxed);
            if write_line(&Answer { id, result }).is_err() {
                // The harness is gone: so is the reader's end of standard input, which ends the rest.
                return;
            }
        }
    }
}

fn info(library: &Libpq, name: &str) -> DriverInfo {
    let number = library.version();
    let mut version = format!("libpq {}.{}", number / 10_000, number % 10_000);
    if let Some(tls) = library.tls_library() {
        // `OpenSSL 3.0.17 1 Jul 2025`: name and number are enough here.
        version.push_str(", ");
        version.push_str(&tls.split_whitespace().take(2).collect::<Vec<_>>().join(" "));
    }
    DriverInfo {
        name: name.to_owned(),
        service: Service::Postgres,
        family: Family::Libpq,
        libpq: Some(number),
        version,
        tls_library: library.tls_library().map(str::to_owned),
    }
}
