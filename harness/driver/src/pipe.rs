//! The client's end of the exec protocol, for clients of ours: requests from standard input, answers to standard output.

use std::io::{self, BufRead as _, Write as _};

use serde::Serialize;

use super::protocol::{Greeting, Hello, PROTOCOL, Request};
use model::driver::DriverInfo;

/// The harness can't be talked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum PipeError {
    /// The harness is gone.
    #[error("could not talk to the harness: {0}")]
    Io(#[from] io::Error),
    /// The harness wrote something else than a request.
    #[error("could not read a request: {source}; it has {length} bytes (not shown: it may hold a password)")]
    Request {
        /// What is wrong with it.
        source: serde_json::Error,
        /// The line's length in bytes.
        length: usize,
    },
}

/// Greets as a client that keeps sessions, and makes `concurrency` connections at once.
pub(super) fn greet(driver: DriverInfo, concurrency: u32) -> io::Result<()> {
    write_line(&Greeting::Hello(Hello { protocol: PROTOCOL, driver, concurrency, sessions: true }))
}

/// Gives each request to `take`, until that wants no more or standard input ends. Blocks.
pub(super) fn read_requests(mut take: impl FnMut(Request) -> bool) -> Result<(), PipeError> {
    for line in io::stdin().lock().lines() {
        let line = line?;
        let request = serde_json::from_str(&line).map_err(|source| PipeError::Request { source, length: line.len() })?;
        if !take(request) {
            break;
        }
    }
    Ok(())
}

/// Writes a line that threads can't tear: the whole of it under one lock.
pub(super) fn write_line(value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    let mut stdout = io::stdout().lock();
    stdout.write_all(&line)?;
    stdout.flush()
}
