//! What can go wrong with the engine.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

/// The engine, or what it was asked for, failed. Nothing of it says anything about a server's behaviour.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers.
    #[error(
        "no Docker engine answers at {host}: {reason}; start one (`systemctl start docker`, or `harness/toolchain/engine.sh start`), \
         or name another in DOCKER_HOST"
    )]
    Absent {
        /// Where it was looked for.
        host: String,
        /// What was found.
        reason: String,
    },
    /// One is there, but not for us.
    #[error(
        "the Docker engine at {host} is not for this user (permission denied): run as root or as a member of the group `docker`, \
         or name a rootless engine in DOCKER_HOST"
    )]
    Denied {
        /// Where.
        host: String,
    },
    /// One that may be on another machine.
    #[error(
        "the Docker engine at {host} can't be used: servers' ports are published on its own loopback interface, which is this machine's only \
         where it is reached through a unix socket; set DOCKER_HOST to unix:///PATH, or leave it out"
    )]
    Remote {
        /// Where.
        host: String,
    },
    /// It did not do something in time.
    #[error("the Docker engine did not {what} within {limit:?}; `docker info` and its log tell whether it hangs")]
    Slow {
        /// What it was asked for.
        what: String,
        /// For how long.
        limit: Duration,
    },
    /// It refused.
    #[error("the Docker engine could not {what}: {reason}")]
    Refused {
        /// What it was asked for.
        what: String,
        /// What it said.
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
        /// The container.
        name: String,
        /// The image's reference.
        image: String,
        /// What was found.
        reason: String,
        /// The end of its output.
        log: String,
    },
    /// The harness's own binary can't be read.
    #[error("could not read the harness's binary {path}, which runs in every container: {source}", path = path.display())]
    Harness {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A caller asks for something that can't be.
    #[error("{0}: this is a defect of the harness")]
    Misuse(String),
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
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
