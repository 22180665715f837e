//! The first line back.

use std::io;

use serde::Serialize;
use tokio::net::TcpStream;

use super::super::line;
use super::super::protocol::{Answer, Done, Failure};

/// Sends the value of a request that was done, or why it was not.
pub(super) async fn reply<T: Serialize>(stream: &mut TcpStream, result: Result<T, Failure>) -> io::Result<()> {
    let answer = match result {
        Ok(value) => Answer::Ok(value),
        Err(failure) => Answer::Err(failure),
    };
    line::send(stream, &answer).await
}

/// Sends why a request was not done; for requests of every answer.
pub(super) async fn refuse(stream: &mut TcpStream, failure: Failure) -> io::Result<()> {
    reply::<Done>(stream, Err(failure)).await
}

/// Runs what waits for the disk or for other programs beside the connections.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::text(format!("the agent failed: {error}"))))
}
