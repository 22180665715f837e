//! What is asked of an agent: one request a connection.
//!
//! The first line from the host is an [`Envelope`], the first line back an [`Answer`]; both are JSON. Then, where the request says so,
//! come raw bytes or [frames](super::frame). Both ends are the same binary: there are no versions to agree on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::Signal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use model::server::Service;
use os::child::{ChildSpec, Pipes};
use os::user::RunAs;

/// A connection's first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Envelope<R> {
    /// What the agent was given as its [`Token`](super::Token).
    pub(super) token: String,
    /// A [`Request`], read only once the token is known to be right.
    pub(super) request: R,
}

/// What the host asks for, one a connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    /// A [`Survey`](super::Survey).
    Survey,
    /// Nothing: the connection stays, and the agent lives as long as one such does.
    Hold,
    /// Makes directories, or gives those that are there this mode and owner.
    MakeDirectories(Vec<DirectorySpec>),
    /// Writes files, each by a rename.
    Write(Vec<FileSpec>),
    /// Removes files and trees.
    Remove(Vec<PathBuf>),
    /// The length of a file in bytes.
    Length(PathBuf),
    /// Starts a child: answers with [`Spawned`], then [frames](super::frame::Kind) both ways. The connection's end stops the child.
    Spawn {
        /// The program, and how it is to run.
        child: Child,
        /// Whether its input and output come as frames of their own; else its input is empty, and its output comes with its errors.
        piped: bool,
    },
    /// Runs a child to its end and answers with [`Finished`].
    Run {
        /// The program, and how it is to run.
        child: Child,
        /// Written to its standard input, which then ends; `None`: it is empty.
        input: Option<String>,
        /// When it is killed.
        limit_ms: u64,
    },
    /// Everything that a file holds and gets, as raw bytes.
    Follow {
        /// A file of the container, which must exist.
        path: PathBuf,
        /// How many of its bytes are known.
        from: u64,
    },
    /// Connects to a server: answers with [`Connected`], then carries the connection in [frames](super::framed).
    Dial {
        /// Where it listens, as seen from the container.
        server: SocketAddr,
        /// The address that it is to see.
        source: Option<IpAddr>,
    },
    /// Connects to a unix socket, then carries the connection as raw bytes.
    DialUnix(PathBuf),
    /// A directory as a tar, in frames, and a last answer.
    Pack(PathBuf),
    /// Takes a directory as a tar, in frames, and answers once more.
    Unpack {
        /// Where to; made if it is missing.
        directory: PathBuf,
        /// Whose everything in it shall be.
        owner: Option<Owner>,
    },
    /// Opens a relay: answers with [`Opened`], then to each [`RelayRequest`] line. The connection's end closes the relay.
    OpenRelay(RelaySpec),
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Survey => write!(f, "look at what is installed"),
            Self::Hold => write!(f, "hold the agent"),
            Self::MakeDirectories(directories) => write!(f, "make {} directories", directories.len()),
            Self::Write(files) => write!(f, "write {} files", files.len()),
            Self::Remove(paths) => write!(f, "remove {} paths", paths.len()),
            Self::Length(path) => write!(f, "look at {}", path.display()),
            Self::Spawn { child, .. } => write!(f, "start `{}`", child.program.display()),
            Self::Run { child, .. } => write!(f, "run `{}`", child.program.display()),
            Self::Follow { path, .. } => write!(f, "follow {}", path.display()),
            Self::Dial { server, .. } => write!(f, "connect to {server}"),
            Self::DialUnix(path) => write!(f, "connect to {}", path.display()),
            Self::Pack(directory) => write!(f, "pack {}", directory.display()),
            Self::Unpack { directory, .. } => write!(f, "unpack to {}", directory.display()),
            Self::OpenRelay(relay) => write!(f, "open a relay to {}", relay.upstream),
        }
    }
}

/// What is asked of an open relay, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RelayRequest {
    /// The addresses that the server has seen so far.
    Upstreams,
    /// The trace; the relay is closed.
    Finish {
        /// How long connections may take to end.
        limit_ms: u64,
    },
}

/// The answer to a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer<T> {
    /// The request was done, and this came of it.
    #[serde(rename = "ok")]
    Ok(T),
    /// The request was not done, or not all of it.
    #[serde(rename = "error")]
    Err(Failure),
}

/// Why the agent could not do it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    /// What was tried and what the system said.
    pub(super) message: String,
    /// The system's error number, where it was a system call that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) errno: Option<i32>,
}

impl Failure {
    /// `trying` reads on after "could not".
    pub(super) fn io(trying: impl fmt::Display, error: &io::Error) -> Self {
        Self { message: format!("could not {trying}: {error}"), errno: error.raw_os_error() }
    }

    pub(super) fn text(message: impl Into<String>) -> Self {
        Self { message: message.into(), errno: None }
    }
}

/// Nothing more to say.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done {}

/// A child was started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spawned {
    /// Its process id in the container.
    pub(super) pid: u32,
}

/// A child has ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Finished {
    /// As wait(2) gives it.
    pub(super) status: i32,
    /// All of its standard output.
    pub(super) stdout: Bytes,
    /// All of its standard error.
    pub(super) stderr: Bytes,
}

/// A server was connected.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Connected {
    /// The address that it sees.
    pub(super) client: SocketAddr,
}

/// A relay was opened.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    /// Where clients in the container connect.
    pub(super) address: SocketAddr,
}

/// Whose a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The user's number in the container.
    pub uid: u32,
    /// The group's number in the container.
    pub gid: u32,
}

impl From<&RunAs> for Owner {
    fn from(user: &RunAs) -> Self {
        Self { uid: user.uid, gid: user.gid }
    }
}

impl Owner {
    pub(super) fn user(self) -> RunAs {
        RunAs { gid: self.gid, ..RunAs::alone(self.uid) }
    }
}

/// A directory to make. Directories above it that are missing are made too, and may be searched by everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectorySpec {
    /// Absolute, in the container.
    pub path: PathBuf,
    /// Its mode, such as `0o700`.
    pub mode: u32,
    /// Whose it shall be; `None`: the agent's, which is root's in a container.
    pub owner: Option<Owner>,
}

/// A file to write. Its directory must be there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpec {
    /// Absolute, in the container.
    pub path: PathBuf,
    /// What it shall hold.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub contents: Vec<u8>,
    /// Its mode, such as `0o600`.
    pub mode: u32,
    /// Whose it shall be; `None`: the agent's.
    pub owner: Option<Owner>,
}

impl fmt::Debug for FileSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may be a key.
        write!(f, "FileSpec({}, {} bytes, {:o})", self.path.display(), self.contents.len(), self.mode)
    }
}

/// A relay to open in the container, for clients that run there; the address that the server sees is of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelaySpec {
    /// Where the server listens, as seen from the container.
    pub upstream: SocketAddr,
    /// The address that it is to see; of the same family. `None` leaves it to the system.
    pub source: Option<IpAddr>,
    /// Where clients in the container connect: 127.0.0.1 or ::1. The port is chosen by the system.
    pub listen: IpAddr,
    /// What the server speaks.
    pub service: Service,
}

/// Bytes that are written as base64.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Bytes(#[serde(serialize_with = "to_base64", deserialize_with = "from_base64")] pub(super) Vec<u8>);

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(serde::de::Error::custom)
}

/// A [`ChildSpec`] without what is of one machine only.
#[derive(Serialize, Deserialize)]
pub(super) struct Child {
    program: PathBuf,
    args: Vec<OsString>,
    env: BTreeMap<String, OsString>,
    user: Option<RunAs>,
    directory: Option<PathBuf>,
    stop_signal: i32,
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its arguments and environment may hold passwords.
        write!(f, "Child({})", self.program.display())
    }
}

impl From<&ChildSpec> for Child {
    fn from(spec: &ChildSpec) -> Self {
        Self {
            program: spec.program.clone(),
            args: spec.args.clone(),
            env: spec.env.clone(),
            user: spec.user.clone(),
            directory: spec.directory.clone(),
            stop_signal: spec.stop_signal as i32,
        }
    }
}

impl Child {
    /// How the agent starts it.
    pub(super) fn spec(self, log: PathBuf, pipes: Pipes) -> Result<ChildSpec, Failure> {
        Ok(ChildSpec {
            program: self.program,
            args: self.args,
            env: self.env,
            user: self.user,
            directory: self.directory,
            log,
            pipes,
            stop_signal: signal(self.stop_signal)?,
        })
    }
}

/// A signal by its number.
pub(super) fn signal(number: i32) -> Result<Signal, Failure> {
    Signal::try_from(number).map_err(|_| Failure::text(format!("there is no signal {number}")))
}
