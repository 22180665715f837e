//! A child of an agent, as the host has it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::client::Agent;
use super::error::AgentError;
use super::frame::{self, FrameError, Kind};
use super::line;
use super::protocol::{Child, Request, Spawned};
use os::child::ChildSpec;

/// How long a start may take: fork and exec, on a busy machine.
const SPAWN_LIMIT: Duration = Duration::from_secs(30);

/// How long after its SIGKILL a child's end may stay unknown: only an agent that is paused or cut off takes longer than moments.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What the program has written and nobody has read yet, at most.
const PIPE: usize = 1024 * 1024;

/// A running child of an agent, with the methods of [`os::child::Child`](os::child::Child).
///
/// Dropping it ends its connection: the agent then sends its stop signal, waits for two seconds, and kills what is left. Unlike that of
/// a local child this isn't waited for: use [`Self::stop`] where what follows needs the child gone.
///
/// A child whose agent is lost counts as ended by SIGKILL: when a container is killed or its agent dies, the kernel ends everything in
/// it like that, and nobody is left to tell. So a server in a killed container looks like a server that was killed;
/// [`Self::is_lost`] tells the two apart.
#[derive(Debug)]
pub struct RemoteChild {
    spec: ChildSpec,
    pid: u32,
    commands: mpsc::UnboundedSender<Command>,
    end: watch::Receiver<Option<End>>,
}

#[derive(Debug, Clone, Copy)]
struct End {
    status: ExitStatus,
    lost: bool,
}

impl End {
    const LOST: i32 = Signal::SIGKILL as i32;

    fn lost() -> Self {
        Self { status: ExitStatus::from_raw(Self::LOST), lost: true }
    }
}

#[derive(Debug)]
enum Command {
    Signal(Signal),
    Kill,
}

impl Agent {
    /// Starts a child. Its output and errors are appended to the local file `output`, which is made if it is missing; `log` and `pipes`
    /// of the specification don't count.
    ///
    /// # Errors
    /// [`AgentError`]: the program can't be started there, or the file not be opened here.
    pub async fn spawn(&self, spec: &ChildSpec, output: &Path) -> Result<RemoteChild, AgentError> {
        let log = open_log(output)?;
        let (stream, spawned) = self.start(spec, false).await?;
        Ok(RemoteChild::new(spec, &spawned, stream, log, None))
    }

    /// Starts a child whose standard output and input are ours to read and write: dropping the writer ends its input. Its errors are
    /// appended to the local file `log` of the specification.
    ///
    /// What it has written must be read: a child of which a megabyte is unread waits, as at a full pipe, and so does the news of its end.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub async fn spawn_piped(&self, spec: &ChildSpec) -> Result<(RemoteChild, DuplexStream, DuplexStream), AgentError> {
        let log = open_log(&spec.log)?;
        let (stream, spawned) = self.start(spec, true).await?;
        let (reader, output) = tokio::io::duplex(PIPE);
        let (writer, input) = tokio::io::duplex(frame::MAX_FRAME);
        Ok((RemoteChild::new(spec, &spawned, stream, log, Some((output, input))), reader, writer))
    }

    async fn start(&self, spec: &ChildSpec, piped: bool) -> Result<(TcpStream, Spawned), AgentError> {
        let (stream, spawned) = self.open(&Request::Spawn { child: Child::from(spec), piped }, Some(SPAWN_LIMIT)).await?;
        line::keep_alive(&stream);
        Ok((stream, spawned))
    }
}

fn open_log(path: &Path) -> Result<File, AgentError> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|source| AgentError::Local { action: "open", path: path.to_path_buf(), source })
}

impl RemoteChild {
    fn new(spec: &ChildSpec, spawned: &Spawned, stream: TcpStream, log: File, pipes: Option<(DuplexStream, DuplexStream)>) -> Self {
        let (read, write) = stream.into_split();
        let (commands, received) = mpsc::unbounded_channel();
        let (ended, end) = watch::channel(None);
        let (output, input) = pipes.unzip();
        // The first task ends with the agent's end of the connection, also after this was dropped: what the child wrote last is in its
        // log. The second ends when this is dropped; that is what the agent sees.
        tokio::spawn(async move {
            let end = receive(read, log, output).await.unwrap_or_else(|_| End::lost());
            ended.send_replace(Some(end));
        });
        tokio::spawn(send(write, received, input, end.clone()));
        Self { spec: spec.clone(), pid: spawned.pid, commands, end }
    }

    /// How it was started.
    #[must_use]
    pub fn spec(&self) -> &ChildSpec {
        &self.spec
    }

    /// Its process id in the container; `None` once its end is known.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.end.borrow().is_none().then_some(self.pid)
    }

    /// Whether it counts as ended because its agent was lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.end.borrow().is_some_and(|end| end.lost)
    }

    /// Whether and how it has ended, as far as that is known here.
    pub fn try_wait(&mut self) -> Option<ExitStatus> {
        self.end.borrow().map(|end| end.status)
    }

    /// Waits for its end. Cancel-safe. Everything it wrote is in the local file then.
    ///
    /// # Errors
    /// None: a lost agent is an end by SIGKILL.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let end = self.end.wait_for(Option::is_some).await.ok().and_then(|end| *end);
        Ok(end.unwrap_or_else(End::lost).status)
    }

    /// Sends a signal, after those sent before; does nothing once it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = self.commands.send(Command::Signal(signal));
    }

    /// Stops it with its own signal, and its whole process group with SIGKILL if it is still there after `limit`.
    /// How it ended; `None` if the agent would not tell.
    pub async fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        self.signal(self.spec.stop_signal);
        if let Ok(Ok(status)) = timeout(limit, self.wait()).await {
            return Some(status);
        }
        let _ = self.commands.send(Command::Kill);
        timeout(KILL_LIMIT, self.wait()).await.ok()?.ok()
    }
}

/// Takes what the agent sends, until the child's end.
async fn receive(read: OwnedReadHalf, mut log: File, mut output: Option<DuplexStream>) -> io::Result<End> {
    let mut read = BufReader::new(read);
    while let Some((kind, bytes)) = frame::receive(&mut read).await? {
        match kind {
            // A local file takes it at once. Full or not, the child's end must still be heard of.
            Kind::Log => drop(log.write_all(&bytes)),
            Kind::Output => {
                if let Some(pipe) = &mut output
                    && pipe.write_all(&bytes).await.is_err()
                {
                    // Nobody reads any more.
                    output = None;
                }
            }
            Kind::Exit => return Ok(End { status: ExitStatus::from_raw(frame::number(&bytes)?), lost: false }),
            _ => return Err(FrameError::UnexpectedKind(kind).received()),
        }
    }
    Ok(End::lost())
}

/// Sends signals and input, until the child has ended, its handle is dropped or the agent is gone.
async fn send(
    mut write: OwnedWriteHalf,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut input: Option<DuplexStream>,
    mut end: watch::Receiver<Option<End>>,
) {
    let mut buffer = vec![0; if input.is_some() { 64 * 1024 } else { 0 }];
    loop {
        let sent = tokio::select! {
            biased;
            command = commands.recv() => match command {
                None => break,
                Some(Command::Signal(signal)) => frame::send(&mut write, Kind::Signal, &(signal as i32).to_be_bytes()).await,
                Some(Command::Kill) => frame::send(&mut write, Kind::Kill, &[]).await,
            },
            _ = end.changed() => break,
            read = next_input(&mut input, &mut buffer) => {
                let length = read.unwrap_or(0);
                if length == 0 {
                    input = None;
                    frame::send(&mut write, Kind::InputEnd, &[]).await
                } else {
                    frame::send(&mut write, Kind::Input, buffer.get(..length).unwrap_or_default()).await
                }
            }
        };
        if sent.is_err() {
            // The agent is gone, which the other task finds as well. Signals go nowhere from now on.
            break;
        }
    }
}

async fn next_input(input: &mut Option<DuplexStream>, buffer: &mut [u8]) -> io::Result<usize> {
    match input {
        Some(input) => input.read(buffer).await,
        None => std::future::pending().await,
    }
}
