//! What is there and not for this user: a checkout that root has made, and another user works in.

use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Uid, User, eaccess};

/// Something that this user may not use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The first directory on the way to it that is closed to this user, or the file itself.
    pub at: PathBuf,
    /// Whose that is, where it can be told: a name or a number.
    pub owner: Option<String>,
    /// Its mode, where it can be told.
    pub mode: Option<u32>,
}

/// What this user wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Read a file, or list a directory and look into it.
    Read,
    /// Execute a file.
    Execute,
}

/// Whether this user may use what is there.
#[must_use]
pub fn may(path: &Path, wanted: Use) -> bool {
    path.metadata().is_ok_and(|status| eaccess(path, flags(&status, wanted)).is_ok())
}

fn flags(status: &Metadata, wanted: Use) -> AccessFlags {
    match wanted {
        Use::Read if status.is_dir() => AccessFlags::R_OK | AccessFlags::X_OK,
        Use::Read => AccessFlags::R_OK,
        Use::Execute => AccessFlags::X_OK,
    }
}

/// Whether it is there, or could be, and this user may not use it; `None` where he may, and where it is certain that there is nothing. Links
/// are followed.
#[must_use]
pub fn closed(path: &Path, wanted: Use) -> Option<Closed> {
    let mut path = std::path::absolute(path).ok()?;
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        match first_link_or_closed(&path) {
            Step::Closed(at) => return Some(describe(at)),
            Step::Link(next) => path = next,
            Step::Missing => return None,
            Step::There(status) => {
                return eaccess(&path, flags(&status, wanted))
                    .is_err_and(|error| error == nix::errno::Errno::EACCES)
                    .then(|| describe(path));
            }
        }
    }
    None
}

enum Step {
    /// This directory may not be searched.
    Closed(PathBuf),
    /// The path with the first link in it replaced by where it leads.
    Link(PathBuf),
    Missing,
    There(Metadata),
}

fn first_link_or_closed(path: &Path) -> Step {
    let mut walked = PathBuf::new();
    let mut rest = path.components();
    let mut last = None;
    while let Some(part) = rest.next() {
        walked.push(part);
        match std::fs::symlink_metadata(&walked) {
            Ok(status) if status.is_symlink() => {
                let Ok(target) = std::fs::read_link(&walked) else { return Step::Missing };
                walked.pop();
                // `join` takes an absolute target alone. `..` is left to the kernel, which goes by the real directories.
                return Step::Link(walked.join(target).join(rest.as_path()));
            }
            Ok(status) => last = Some(status),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                walked.pop();
                return Step::Closed(walked);
            }
            Err(_) => return Step::Missing,
        }
    }
    last.map_or(Step::Missing, Step::There)
}

fn describe(at: PathBuf) -> Closed {
    let status = std::fs::metadata(&at).ok();
    let owner = status.as_ref().map(|status| name_of_user(status.uid()));
    Closed { owner, mode: status.map(|status| status.permissions().mode() & 0o7777), at }
}

/// A user's name; his number where he has none.
fn name_of_user(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Who we are: `nobody`, or a number without a name.
#[must_use]
pub fn this_user() -> String {
    name_of_user(nix::unistd::geteuid().as_raw())
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is closed to user {}", self.at.display(), this_user())?;
        match (&self.owner, self.mode) {
            (Some(owner), Some(mode)) => write!(f, " (it is {owner}'s, mode {mode:04o})"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root may use everything; what others see is tested with the binary.
    #[test]
    fn what_is_not_there_is_not_closed_and_links_are_followed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        std::fs::create_dir(path("real")).expect("makes");
        std::fs::write(path("real/program"), "").expect("writes");
        std::fs::set_permissions(path("real/program"), std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::os::unix::fs::symlink("real", path("link")).expect("links");
        std::os::unix::fs::symlink(path("link/program"), path("far")).expect("links");
        std::os::unix::fs::symlink("round", path("round")).expect("links");
        for missing in ["nothing", "nothing/below", "real/program/below", "round"] {
            assert_eq!(closed(&path(missing), Use::Read), None, "{missing}");
        }
        assert_eq!(closed(&path("far"), Use::Read), None, "it is ours");
        // Nobody may execute it, not even root.
        let program = closed(&path("far"), Use::Execute).expect("it is no program");
        assert_eq!((program.at, program.mode), (path("real/program"), Some(0o600)));
        assert!(may(&path("far"), Use::Read) && !may(&path("far"), Use::Execute) && !may(&path("nothing"), Use::Read));
    }
}
