//! A container in which clients run.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid};
use tokio::sync::Mutex;

use super::client::Agent;
use super::error::AgentError;
use super::protocol::{DirectorySpec, FileSpec, Owner};
use os::user::RunAs;

/// A container in which clients run, and what was brought there for them.
#[derive(Debug)]
pub struct ClientContainer {
    agent: Agent,
    harness: PathBuf,
    /// What files there hold. Held while files are on their way: whoever needs one waits until it is there.
    brought: Mutex<HashMap<PathBuf, CopiedFile>>,
}

/// A file as it was brought.
#[derive(Debug, PartialEq, Eq)]
struct CopiedFile {
    contents: Vec<u8>,
    mode: u32,
    owner: Owner,
}

impl CopiedFile {
    /// A file of this machine; `None` if it is not there.
    fn read(path: &Path) -> io::Result<Option<Self>> {
        let read = || -> io::Result<Self> {
            let status = std::fs::metadata(path)?;
            let here = RunAs::of_clients();
            let (uid, gid) = here.map_or_else(|| (geteuid().as_raw(), getegid().as_raw()), |user| (user.uid, user.gid));
            let there = RunAs::of_contained_clients();
            let owner = Owner {
                uid: if status.uid() == uid { there.uid } else { status.uid() },
                gid: if status.gid() == gid || status.uid() == uid { there.gid } else { status.gid() },
            };
            Ok(Self { contents: std::fs::read(path)?, mode: status.permissions().mode() & 0o7777, owner })
        };
        match read() {
            Ok(brought) => Ok(Some(brought)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl ClientContainer {
    /// Clients in this agent's container, where `harness` is the harness's own binary.
    #[must_use]
    pub fn new(agent: Agent, harness: impl Into<PathBuf>) -> Self {
        Self { agent, harness: harness.into(), brought: Mutex::default() }
    }

    /// The agent that starts the clients there.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The harness's own binary there.
    #[must_use]
    pub fn harness(&self) -> &Path {
        &self.harness
    }

    /// Makes files there what they are here, under the same paths, with mode and owner: what belongs here to the user and the group that
    /// clients run as belongs there to those of [`RunAs::of_contained_clients`]. A file that is not here is not there afterwards. What has not
    /// changed since is not sent again.
    ///
    /// # Errors
    /// [`AgentError`]: the file that can't be read here, or what the agent could not do.
    pub async fn bring(&self, files: impl IntoIterator<Item = PathBuf>) -> Result<(), AgentError> {
        let mut brought = self.brought.lock().await;
        let (mut changed, mut gone) = (Vec::new(), Vec::new());
        for path in files {
            let unread = |source| AgentError::Local { action: "read, for the clients' container,", path: path.clone(), source };
            match CopiedFile::read(&path).map_err(unread)? {
                Some(file) if brought.get(&path) != Some(&file) => changed.push((path, file)),
                None if brought.contains_key(&path) => gone.push(path),
                _ => {}
            }
        }
        if !gone.is_empty() {
            self.agent.remove(&gone).await?;
            gone.iter().for_each(|path| drop(brought.remove(path)));
        }
        if !changed.is_empty() {
            self.make_directories(changed.iter().filter_map(|(path, _)| path.parent())).await?;
            let spec = |(path, file): &(PathBuf, CopiedFile)| FileSpec {
                path: path.clone(),
                contents: file.contents.clone(),
                mode: file.mode,
                owner: Some(file.owner),
            };
            self.agent.write(&changed.iter().map(spec).collect::<Vec<_>>()).await?;
            brought.extend(changed);
        }
        Ok(())
    }

    /// Makes directories that everybody may search.
    ///
    /// # Errors
    /// [`AgentError`] with the first one that can't be made.
    pub async fn make_directories<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Result<(), AgentError> {
        let paths: BTreeSet<&Path> = paths.into_iter().collect();
        let specs: Vec<_> = paths.into_iter().map(|path| DirectorySpec { path: path.to_path_buf(), mode: 0o755, owner: None }).collect();
        self.agent.make_directories(&specs).await
    }
}
