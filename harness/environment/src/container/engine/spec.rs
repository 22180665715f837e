//! What a container is to be.

use std::fmt;

use super::error::Misuse;
use super::image::ImageFound;
use model::network::NetworkName;

/// One container, before it is started.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// A short name, unique among the run's containers of the moment, such as `postgres-17-documented`.
    pub name: String,
    /// What it is started from, by its id.
    pub image: ImageFound,
    /// The networks that it is on, beside the one over which its ports are published.
    pub networks: Vec<Attachment>,
    /// Further names under which containers on the same networks find it, such as `nautobot-cluster-rw.nautobot.svc`.
    pub aliases: Vec<String>,
    /// The command line, in place of the image's entrypoint and command. It runs as root, as the child of docker-init.
    pub command: Vec<String>,
    /// TCP ports that are published on this machine's loopback interface, each with a port that the engine chooses.
    pub publish: Vec<u16>,
    /// Files that are there when the command starts; they belong to root.
    pub files: Vec<FileSpec>,
    /// Paths with a file system in memory, beside those for which the image declares volumes.
    pub tmpfs: Vec<String>,
}

impl ContainerSpec {
    /// One without networks, ports and files.
    #[must_use]
    pub fn new(name: impl Into<String>, image: ImageFound, command: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            name: name.into(),
            image,
            networks: Vec::new(),
            aliases: Vec::new(),
            command: command.into_iter().map(Into::into).collect(),
            publish: Vec::new(),
            files: Vec::new(),
            tmpfs: Vec::new(),
        }
    }

    /// Everything that gets a file system in memory: a path for which the image declares a volume would get an anonymous one otherwise, which
    /// has no label.
    pub(super) fn in_memory(&self) -> Vec<String> {
        let mut paths = self.tmpfs.clone();
        paths.extend(self.image.volumes.iter().cloned());
        paths.sort();
        paths.dedup();
        paths
    }

    /// # Errors
    /// [`Misuse`] for what the engine would refuse late, or do otherwise than meant.
    pub(super) fn check(&self) -> Result<(), Misuse> {
        if !is_name(&self.name) {
            return Err(Misuse::ContainerName(self.name.clone()));
        }
        if self.command.is_empty() {
            return Err(Misuse::NoCommand(self.name.clone()));
        }
        for memory in self.in_memory() {
            let below = format!("{}/", memory.trim_end_matches('/'));
            if let Some(file) = self.files.iter().find(|file| file.path.starts_with(&below)) {
                return Err(Misuse::HiddenFile { container: self.name.clone(), file: file.path.clone(), memory });
            }
        }
        Ok(())
    }
}

/// Whether the engine takes this as (part of) a name.
pub(super) fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|char| char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-'))
}

/// A network that a container is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attachment {
    /// One of the run's networks.
    pub network: NetworkName,
    /// The last part of the address there, from 2 to 254; `None` for one that is free.
    pub host: Option<u8>,
}

impl From<NetworkName> for Attachment {
    fn from(network: NetworkName) -> Self {
        Self { network, host: None }
    }
}

/// A file that is there when a container starts.
#[derive(Clone, PartialEq, Eq)]
pub struct FileSpec {
    /// Where, absolute. Missing directories are made.
    pub path: String,
    /// What stands in it.
    pub bytes: Vec<u8>,
    /// Its permissions, such as `0o600`.
    pub mode: u32,
}

// What stands in it may be secret.
impl fmt::Debug for FileSpec {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} ({} bytes, mode {:o})", self.path, self.bytes.len(), self.mode)
    }
}
