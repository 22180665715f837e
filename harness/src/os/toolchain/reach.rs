//! Making server builds usable by the user that servers run as.
//!
//! A clone below a folder that only its owner may enter (`/root`, a `mktemp -d`) holds builds that the unprivileged user of
//! [`RunAs::unprivileged`] can't execute.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::PostgresBuild;
use crate::os::user::RunAs;

/// A build could not be brought within reach.
#[derive(Debug, thiserror::Error)]
#[error(
    "PostgreSQL {major} in {bin} can't be reached by the user {user} that servers run as, and copying it to {target} failed: {source}; \
     move the clone to a folder that others may enter, or set MTLS_CONFORMANCE_TOOLCHAIN to one",
    bin = bin.display(), target = target.display()
)]
pub struct ReachError {
    /// The build.
    pub major: u16,
    /// Its programs.
    pub bin: PathBuf,
    /// Who can't reach them.
    pub user: String,
    /// Where the copy was to be.
    pub target: PathBuf,
    /// Why that failed.
    pub source: std::io::Error,
}

impl PostgresBuild {
    /// The build itself where `user` can execute it (or servers run as ourselves); otherwise a copy of it in a new folder below
    /// `scratch`, which `user` must be able to enter. Only our own builds are copied: they work from any place.
    ///
    /// # Errors
    /// [`ReachError`] if the copy fails.
    pub fn within_reach(&self, user: Option<&RunAs>, scratch: &Path) -> Result<Self, ReachError> {
        let Some(user) = user else {
            return Ok(self.clone());
        };
        let Some(prefix) = self.bin.parent() else {
            return Ok(self.clone());
        };
        if self.origin != "toolchain" || can_enter(&self.bin, user) {
            return Ok(self.clone());
        }
        let target = scratch.join(format!("postgresql-{}", self.major));
        copy_build(prefix, &target).map_err(|source| ReachError {
            major: self.major,
            bin: self.bin.clone(),
            user: user.name.clone(),
            target: target.clone(),
            source,
        })?;
        Ok(Self { bin: target.join("bin"), ..self.clone() })
    }
}

/// Whether `user` may enter `folder` and all folders above it, by their modes. Further groups of the user are not looked at.
fn can_enter(folder: &Path, user: &RunAs) -> bool {
    let Ok(folder) = folder.canonicalize() else {
        return false;
    };
    folder.ancestors().all(|ancestor| {
        ancestor.metadata().is_ok_and(|meta| {
            let search = if meta.uid() == user.uid {
                0o100
            } else if meta.gid() == user.gid {
                0o010
            } else {
                0o001
            };
            meta.mode() & search != 0
        })
    })
}

/// Copies what a running server needs: programs, shared libraries, shared files; no static libraries.
fn copy_build(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    open_to_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if kind.is_dir() {
            copy_build(&source, &target)?;
        } else if source.extension().is_none_or(|extension| extension != "a") {
            std::fs::copy(&source, &target)?;
        }
    }
    Ok(())
}

fn open_to_all(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}
