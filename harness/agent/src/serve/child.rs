//! A child whose input and output go over its connection.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::unix::pipe::Receiver;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::super::frame::{self, Kind};
use super::super::line;
use super::super::protocol::{self, Failure, Spawned};
use super::answer::{refuse, reply};
use super::lifetime::{GRACE, Lifetime};
use super::pipe::{pipe, rest};
use os::child::{Child, Pipes};

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// What is still read from each pipe after its child's end, at most: what a pipe can hold and more.
const UNREAD_OUTPUT: usize = 4 * 1024 * 1024;

/// How long the host may take to hang up after a child's end.
const HANG_UP_LIMIT: Duration = Duration::from_secs(10);

/// Starts a child and serves its connection until both have ended.
pub(super) async fn spawn(mut stream: TcpStream, child: protocol::Child, piped: bool, lifetime: &Lifetime) -> io::Result<()> {
    line::keep_alive(&stream);
    let running = lifetime.child();
    let (mut child, output, log) = match start(child, piped).await {
        Ok(started) => started,
        Err(failure) => return refuse(&mut stream, failure).await,
    };
    let input = output.1;
    if let Err(error) = reply(&mut stream, Ok(Spawned { pid: child.pid().unwrap_or_default() })).await {
        // Dropped, it would hold a thread up as long as it takes to end.
        child.stop(GRACE).await;
        return Err(error);
    }
    let (read, write) = stream.into_split();
    let (orders, received) = mpsc::unbounded_channel();
    let mut reader = tokio::spawn(receive(read, orders, input));
    let mut host = HostConnection { write: Some(write) };
    let status = attend(&mut child, output.0, log, received, &mut host, lifetime).await;
    host.send(Kind::Exit, &status.into_raw().to_be_bytes()).await;
    drop(host);
    drop(running);
    // What the host has sent meanwhile must be taken: else the connection would end with a reset, and perhaps without its last frame.
    if timeout(HANG_UP_LIMIT, &mut reader).await.is_err() {
        reader.abort();
    }
    Ok(())
}

type Piped = (Option<Receiver>, Option<ChildStdin>);

async fn start(child: protocol::Child, piped: bool) -> Result<(Child, Piped, Receiver), Failure> {
    let no_pipe = |error| Failure::io("make a pipe", &error);
    let (log, write_end) = pipe().map_err(no_pipe)?;
    let spec = child.spec(write_end.path(), if piped { Pipes::Lines } else { Pipes::Log })?;
    let mut child = spec.spawn().await.map_err(|error| spawn_failure(&error))?;
    let Some((input, output)) = child.take_pipes() else { return Ok((child, (None, None), log)) };
    let output = output.into_owned_fd().and_then(Receiver::from_owned_fd).map_err(no_pipe)?;
    Ok((child, (Some(output), Some(input)), log))
}

pub(super) fn spawn_failure(error: &os::child::ChildError) -> Failure {
    let (os::child::ChildError::Spawn { source, .. } | os::child::ChildError::Log { source, .. }) = error;
    Failure { message: error.to_string(), errno: source.raw_os_error() }
}

/// What the host wants of the child.
enum Order {
    Signal(i32),
    Kill,
    /// It holds the child no longer.
    Release,
}

/// Takes what the host sends. Input has a task of its own: a child that reads nothing must still get its signals.
async fn receive(read: OwnedReadHalf, orders: mpsc::UnboundedSender<Order>, input: Option<ChildStdin>) {
    let mut read = BufReader::new(read);
    let mut input = input.map(|stdin| {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(feed(stdin, receiver));
        sender
    });
    while let Ok(Some((kind, bytes))) = frame::receive(&mut read).await {
        let order = match kind {
            Kind::Input => {
                if let Some(input) = &input {
                    let _ = input.send(bytes);
                }
                continue;
            }
            Kind::InputEnd => {
                input = None;
                continue;
            }
            Kind::Signal => frame::number(&bytes).map(Order::Signal),
            Kind::Kill => Ok(Order::Kill),
            _ => break,
        };
        let Ok(order) = order else { break };
        let _ = orders.send(order);
    }
    let _ = orders.send(Order::Release);
}

async fn feed(mut stdin: ChildStdin, mut input: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = input.recv().await {
        if stdin.write_all(&bytes).await.is_err() {
            // It has closed its input; the rest goes nowhere.
            return;
        }
    }
}

/// What is sent to the host; nothing any more once the host is gone.
struct HostConnection {
    write: Option<OwnedWriteHalf>,
}

impl HostConnection {
    async fn send(&mut self, kind: Kind, bytes: &[u8]) {
        if let Some(write) = &mut self.write
            && frame::send(write, kind, bytes).await.is_err()
        {
            self.write = None;
        }
    }
}

/// Carries out orders and passes the child's output on, until its end. A child that is released gets its stop signal, and SIGKILL a little
/// later.
async fn attend(
    child: &mut Child,
    mut output: Option<Receiver>,
    log: Receiver,
    mut orders: mpsc::UnboundedReceiver<Order>,
    host: &mut HostConnection,
    lifetime: &Lifetime,
) -> ExitStatus {
    let mut log = Some(log);
    let (mut output_bytes, mut log_bytes) = (vec![0; BUFFER], vec![0; BUFFER]);
    let mut stopping: Option<Instant> = None;
    let mut held = true;
    let status = loop {
        tokio::select! {
            order = orders.recv(), if held => match order {
                Some(Order::Signal(number)) => {
                    if let Ok(signal) = protocol::signal(number) {
                        child.signal(signal);
                    }
                }
                Some(Order::Kill) => child.kill_group(),
                Some(Order::Release) | None => {
                    held = false;
                    begin_stop(child, &mut stopping);
                }
            },
            () = lifetime.ending(), if stopping.is_none() => begin_stop(child, &mut stopping),
            () = sleep_until(stopping.unwrap_or_else(Instant::now)), if stopping.is_some() => {
                child.kill_group();
                // It is about to end; until then, once more a little later.
                stopping = Some(Instant::now() + GRACE);
            }
            length = read(&mut log, &mut log_bytes) => match length {
                0 => log = None,
                length => host.send(Kind::Log, log_bytes.get(..length).unwrap_or_default()).await,
            },
            length = read(&mut output, &mut output_bytes) => match length {
                0 => output = None,
                length => host.send(Kind::Output, output_bytes.get(..length).unwrap_or_default()).await,
            },
            status = child.wait() => break status.unwrap_or_else(|_| ExitStatus::from_raw(nix::libc::SIGKILL)),
        }
    };
    for (kind, pipe) in [(Kind::Log, log), (Kind::Output, output)] {
        let unread = pipe.map(|pipe| rest(&pipe, UNREAD_OUTPUT)).unwrap_or_default();
        for piece in unread.chunks(BUFFER) {
            host.send(kind, piece).await;
        }
    }
    status
}

fn begin_stop(child: &Child, stopping: &mut Option<Instant>) {
    if stopping.is_none() {
        child.signal(child.spec().stop_signal);
        *stopping = Some(Instant::now() + GRACE);
    }
}

/// Reads; 0 at the end. A pipe that is closed is never ready.
async fn read(pipe: &mut Option<Receiver>, buffer: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}
