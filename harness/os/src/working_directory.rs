//! Where other processes work.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};

/// The working directory of a process; `None` where it is gone, or may not be looked at. Behind the path of a removed directory the kernel
/// writes ` (deleted)`.
///
/// It is shown to the process's own user, and to whoever has CAP_SYS_PTRACE (ptrace(2), "Ptrace access mode checking"). Root in a container
/// lacks that, and asks as that user.
#[must_use]
pub fn of(pid: i32) -> Option<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    match fs::read_link(process.join("cwd")) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && geteuid().is_root() => as_its_user(&process),
        shown => shown.ok(),
    }
}

fn as_its_user(process: &Path) -> Option<PathBuf> {
    let owner = fs::metadata(process).ok()?;
    let ask = || {
        setfsgid(Gid::from_raw(owner.gid()));
        setfsuid(Uid::from_raw(owner.uid()));
        fs::read_link(process.join("cwd")).ok()
    };
    // These ids are a thread's, and end with it.
    std::thread::scope(|scope| scope.spawn(ask).join().ok()?)
}
