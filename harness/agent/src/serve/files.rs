//! Files and directories.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::protocol::{DirectorySpec, Done, Failure, FileSpec, Owner};
use os::tree;

/// How long the removal of a tree is tried in which servers are just ending.
const REMOVAL: Duration = Duration::from_secs(2);

/// The mode of directories that nobody asked for by name: servers run as other users and must get through.
const PARENT_MODE: u32 = 0o755;

pub(super) fn make(directories: &[DirectorySpec]) -> Result<Done, Failure> {
    for directory in directories {
        make_one(directory).map_err(|error| Failure::io(format_args!("make the directory {}", directory.path.display()), &error))?;
    }
    Ok(Done {})
}

fn make_one(directory: &DirectorySpec) -> io::Result<()> {
    if let Some(parent) = directory.path.parent() {
        make_above(parent)?;
    }
    match std::fs::create_dir(&directory.path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.path.is_dir() => {}
        other => other?,
    }
    let owner = directory.owner.map(Owner::user);
    // The owner first: chown(2) may clear mode bits.
    tree::give(&directory.path, owner.as_ref())?;
    std::fs::set_permissions(&directory.path, std::fs::Permissions::from_mode(directory.mode))
}

/// Makes a directory and those above it where they are missing, whatever the umask is.
pub(super) fn make_above(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_above(parent)?;
    }
    match std::fs::create_dir(directory) {
        // Another request may be making it too.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => return Ok(()),
        other => other?,
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(PARENT_MODE))
}

pub(super) fn length(path: &Path) -> Result<u64, Failure> {
    let status = std::fs::metadata(path).map_err(|error| Failure::io(format_args!("look at {}", path.display()), &error))?;
    Ok(status.len())
}

pub(super) fn write(files: &[FileSpec]) -> Result<Done, Failure> {
    for file in files {
        let owner = file.owner.map(Owner::user);
        let written = tree::replace(&file.path, &file.contents, file.mode, owner.as_ref());
        written.map_err(|error| Failure::io(format_args!("write {}", file.path.display()), &error))?;
    }
    Ok(Done {})
}

pub(super) fn remove(paths: &[PathBuf]) -> Result<Done, Failure> {
    for path in paths {
        remove_one(path).map_err(|error| Failure::io(format_args!("remove {}", path.display()), &error))?;
    }
    Ok(Done {})
}

fn remove_one(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => tree::remove(path, REMOVAL),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
