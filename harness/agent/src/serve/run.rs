//! A program that runs to its end.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::unix::pipe::Receiver;
use tokio::process::ChildStdin;
use tokio::time::timeout;

use super::super::line;
use super::super::protocol::{self, Bytes, Failure, Finished};
use super::child::spawn_failure;
use super::lifetime::{GRACE, Lifetime};
use super::pipe::{pipe, rest};
use os::child::Pipes;

/// The most that is kept of a program's output, and of its errors. Both fit in an answer.
const MAX_OUTPUT: usize = 8 * 1024 * 1024;

/// How long a program whose time is over gets for its stop signal.
const STOP_LIMIT: Duration = Duration::from_millis(500);

/// Runs it; `None` when the host has hung up.
pub(super) async fn run(
    stream: &TcpStream,
    child: protocol::Child,
    input: Option<String>,
    limit: Duration,
    lifetime: &Lifetime,
) -> Option<Result<Finished, Failure>> {
    let _running = lifetime.child();
    let (log, write_end) = match pipe() {
        Ok(pipe) => pipe,
        Err(error) => return Some(Err(Failure::io("make a pipe", &error))),
    };
    let spec = match child.spec(write_end.path(), Pipes::Lines) {
        Ok(spec) => spec,
        Err(failure) => return Some(Err(failure)),
    };
    let mut child = match spec.spawn().await {
        Ok(child) => child,
        Err(error) => return Some(Err(spawn_failure(&error))),
    };
    drop(write_end);
    let Some((stdin, stdout)) = child.take_pipes() else { return Some(Err(Failure::text("the program has no pipes"))) };
    let stdout = match stdout.into_owned_fd().and_then(Receiver::from_owned_fd) {
        Ok(stdout) => stdout,
        Err(error) => return Some(Err(Failure::io("make a pipe", &error))),
    };
    let (mut output, mut errors) = (Collected::new(stdout), Collected::new(log));
    let ended = {
        let feeding = feed(stdin, input);
        tokio::pin!(feeding);
        let mut fed = false;
        let all = async {
            loop {
                tokio::select! {
                    () = &mut feeding, if !fed => fed = true,
                    () = output.read_on(), if !output.ended => {}
                    () = errors.read_on(), if !errors.ended => {}
                    status = child.wait() => break status,
                }
            }
        };
        tokio::select! {
            ended = timeout(limit, all) => Some(ended),
            () = line::hung_up(stream) => None,
            () = lifetime.ending() => None,
        }
    };
    match ended {
        Some(Ok(Ok(status))) => {
            output.finish();
            errors.finish();
            let too_much = [&output, &errors].iter().any(|pipe| pipe.bytes.len() > MAX_OUTPUT);
            if too_much {
                return Some(Err(Failure::text(format!("it wrote more than {MAX_OUTPUT} bytes"))));
            }
            Some(Ok(Finished { status: status.into_raw(), stdout: Bytes(output.bytes), stderr: Bytes(errors.bytes) }))
        }
        Some(Ok(Err(error))) => Some(Err(Failure::io("wait for its end", &error))),
        Some(Err(_)) => {
            child.stop(STOP_LIMIT).await;
            output.finish();
            errors.finish();
            let said = String::from_utf8_lossy(if errors.bytes.is_empty() { &output.bytes } else { &errors.bytes }).into_owned();
            let last: Vec<&str> = said.lines().rev().take(5).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            Some(Err(Failure::text(format!("it did not end within {limit:?} and was stopped; the end of its output: {}", last.join("\n")))))
        }
        None => {
            child.stop(GRACE).await;
            None
        }
    }
}

async fn feed(mut stdin: ChildStdin, input: Option<String>) {
    if let Some(input) = input {
        // A program may end without having read all of it.
        let _: io::Result<()> = stdin.write_all(input.as_bytes()).await;
    }
}

/// What came out of a pipe.
struct Collected {
    pipe: Receiver,
    bytes: Vec<u8>,
    ended: bool,
    buffer: Vec<u8>,
}

impl Collected {
    fn new(pipe: Receiver) -> Self {
        Self { pipe, bytes: Vec::new(), ended: false, buffer: vec![0; 64 * 1024] }
    }

    /// Reads a piece. What is beyond the limit is read too, so that the program gets on, but not kept.
    async fn read_on(&mut self) {
        match self.pipe.read(&mut self.buffer).await {
            Ok(length @ 1..) => {
                if self.bytes.len() <= MAX_OUTPUT {
                    self.bytes.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
                }
            }
            _ => self.ended = true,
        }
    }

    /// After the program's end: what is there, not what others may still write.
    fn finish(&mut self) {
        if !self.ended {
            self.bytes.extend(rest(&self.pipe, MAX_OUTPUT));
        }
    }
}
