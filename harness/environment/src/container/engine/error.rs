//! What can go wrong with the engine.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::causes::with_causes;
use model::network::NetworkName;

/// The engine, or what it was asked for, failed. Nothing of it says anything about a server's behaviour.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing listens at its socket, or it does not speak the engine's protocol.
    #[error(
        "no Docker engine answers at {host}: {reason}; start one (`systemctl start docker`, or `harness/toolchain/engine.sh start`), \
         or name another in DOCKER_HOST"
    )]
    Absent {
        /// Where it was looked for.
        host: String,
        /// What connect(2) or the client said.
        reason: String,
    },
    /// One is there, but not for us.
    #[error(
        "the Docker engine at {host} is not for this user (permission denied): run as root or as a member of the group `docker`, \
         or name a rootless engine in DOCKER_HOST"
    )]
    Denied {
        /// The address, as DOCKER_HOST has it.
        host: String,
    },
    /// One that may be on another machine.
    #[error(
        "the Docker engine at {host} can't be used: servers' ports are published on its own loopback interface, which is this machine's only \
         where it is reached through a unix socket; set DOCKER_HOST to unix:///PATH, or leave it out"
    )]
    Remote {
        /// The address, as DOCKER_HOST has it.
        host: String,
    },
    /// It did not do something in time.
    #[error("the Docker engine did not {what} within {limit:?}; `docker info` and its log tell whether it hangs")]
    Slow {
        /// What it was asked for.
        what: String,
        /// Many times what a busy machine takes.
        limit: Duration,
    },
    /// It refused, or the connection to it broke.
    #[error("the Docker engine could not {what}: {reason}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// The engine's message, or what the client found with its causes.
        reason: String,
        /// The HTTP status; `None` where there was no answer.
        status: Option<u16>,
    },
    /// None of the images is there.
    #[error("no image: {tried}; build them with `kind/images/build.sh`, or name another with --image", tried = tried.join("; "))]
    NoImage {
        /// Each reference with what was found.
        tried: Vec<String>,
    },
    /// The container did not start.
    #[error("the container {name} of the image {image} did not start: {reason}; its output: {log}")]
    Start {
        /// The short name, without the run's id.
        name: String,
        /// The reference under which its image was found.
        image: String,
        /// What the engine said, or how its process ended.
        reason: String,
        /// The end of its output.
        log: String,
    },
    /// The harness's own binary can't be read.
    #[error("could not read the harness's binary {path}, which runs in every container: {source}", path = path.display())]
    Harness {
        /// Where it should be.
        path: PathBuf,
        /// What the system call said.
        source: std::io::Error,
    },
    /// /proc does not tell what distinguishes this process: nothing that it makes could be told from what another left.
    #[error("this process can't be told from others: {0}")]
    Owner(#[source] std::io::Error),
    /// A caller asks for something that can't be.
    #[error("{0}: this is a defect of the harness")]
    Misuse(#[from] Misuse),
}

/// What a run, or one of its containers, can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// The run's id becomes a part of names.
    #[error("the run's id {0:?} may only have letters, digits, `.`, `_` and `-`")]
    RunName(String),
    /// A container's name is one that the engine would refuse.
    #[error("the container {0}: its name may only have letters, digits, `.`, `_` and `-`")]
    ContainerName(String),
    /// A container would run the image's own command, which does not start an agent.
    #[error("the container {0} has no command")]
    NoCommand(String),
    /// A file would be written below a path that gets a file system in memory afterwards.
    #[error("the container {container}: {file} would be hidden by the file system in memory at {memory}")]
    HiddenFile {
        /// The container's short name.
        container: String,
        /// The file's path in it.
        file: String,
        /// The path of the file system in memory.
        memory: String,
    },
    /// A container is to be on a network that no run has.
    #[error("the run has no network {0}")]
    NoNetwork(NetworkName),
    /// What is started after [`close`](super::Scope::close) would be removed by nobody.
    #[error("the container {0} is started after the end of its run")]
    Closed(String),
    /// Two containers of a run can't have one name.
    #[error("there is already a container {0} in this run")]
    NameTaken(String),
    /// A container can't have the place in a network that it is to have.
    #[error("the container {container} in the network {network}: {problem}")]
    Attachment {
        /// The container's short name.
        container: String,
        /// The network that it is to be on.
        network: NetworkName,
        /// What keeps it from having the place.
        problem: AttachmentProblem,
    },
}

/// Why a container can't be on a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentProblem {
    /// One container is on a network once.
    #[error("it is named twice")]
    Twice,
    /// Another container has the address, or it is the bridge's or the broadcast address.
    #[error("the address {0} is not free")]
    AddressTaken(u8),
    /// All addresses that are given without being asked for are in use.
    #[error("no address is free")]
    NoAddress,
}

/// An image can't be pulled.
#[derive(Debug, Clone)]
pub(super) struct PullError(pub(super) Arc<EngineError>);

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_ref() {
            // What was tried is said by whoever tells of it.
            EngineError::Refused { reason, .. } => f.write_str(reason),
            other => other.fmt(f),
        }
    }
}

impl EngineError {
    pub(super) fn absent(host: &str, reason: String) -> Self {
        Self::Absent { host: host.to_owned(), reason }
    }

    pub(super) fn refused(what: String, error: &bollard::errors::Error) -> Self {
        let status = match error {
            bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
            _ => None,
        };
        Self::Refused { what, reason: about(error), status }
    }

    /// Whether the engine says that there is no such thing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { status: Some(404), .. })
    }

    /// Whether the engine says that the thing's state does not allow it: a container that doesn't run, a removal that has begun.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: Some(409), .. })
    }

    /// Whether the engine says that a container is on the network already, or is not on it. It has no status of its own for either.
    pub(super) fn is_connected_already(&self) -> bool {
        matches!(self, Self::Refused { status: Some(_), reason, .. } if reason.contains("already exists in network"))
    }

    pub(super) fn is_not_connected(&self) -> bool {
        matches!(self, Self::Refused { status: Some(_), reason, .. } if reason.contains("is not connected to"))
    }

    /// Whether a network's addresses are taken. The engine has no status of its own for it.
    pub(super) fn is_overlap(&self) -> bool {
        matches!(self, Self::Refused { reason, .. } if reason.to_lowercase().contains("overlap"))
    }
}

/// What the client says, with its causes: some of its errors hide them.
pub(super) fn about(error: &bollard::errors::Error) -> String {
    if let bollard::errors::Error::DockerResponseServerError { message, .. } = error {
        return message.trim().to_owned();
    }
    with_causes(error)
}
