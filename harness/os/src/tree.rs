//! Directory trees: copying, giving away, removing, and who still uses them.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::user::RunAs;
use super::working_directory;

/// A tree could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("could not copy {from} to {to}: {source}", from = from.display(), to = to.display())]
pub struct CopyError {
    /// The file or directory at which the copy stopped.
    pub from: PathBuf,
    /// Where it was to go.
    pub to: PathBuf,
    /// What the system call said.
    pub source: io::Error,
}

/// Copies the directory `from` to `to`, which must not exist: files with their modes, symbolic links as links. Everything belongs to
/// `owner` afterwards, or to us. Sockets and the like are left out.
///
/// # Errors
/// [`CopyError`] with the file at which it stopped; what was copied until then stays.
pub fn copy(from: &Path, to: &Path, owner: Option<&RunAs>) -> Result<(), CopyError> {
    let error = |source| CopyError { from: from.to_path_buf(), to: to.to_path_buf(), source };
    let mode = std::fs::metadata(from).map_err(error)?.permissions();
    std::fs::create_dir(to).map_err(error)?;
    for entry in std::fs::read_dir(from).map_err(error)? {
        let entry = entry.map_err(error)?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let error = |cause| CopyError { from: source.clone(), to: target.clone(), source: cause };
        let kind = entry.file_type().map_err(error)?;
        if kind.is_dir() {
            copy(&source, &target, owner)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source).map_err(error)?, &target).map_err(error)?;
        } else if kind.is_file() {
            copy_file(&source, &target).map_err(error)?;
            give(&target, owner).map_err(error)?;
        }
    }
    // Last, so that a read-only directory can be filled first.
    std::fs::set_permissions(to, mode).map_err(error)?;
    give(to, owner).map_err(error)
}

/// The size of the pieces in which a file system keeps files, or a part of it.
const BLOCK: usize = 4096;

/// Copies a file with its mode. What is all zero is left out, so that the copy takes no room for it: a good part of a data directory is.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let contents = std::fs::read(from)?;
    let copy = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    copy.set_len(contents.len() as u64)?;
    let is_zero = |block: &[u8]| block.iter().all(|byte| *byte == 0);
    let blocks: Vec<&[u8]> = contents.chunks(BLOCK).collect();
    let mut offset = 0;
    for piece in blocks.chunk_by(|one, other| is_zero(one) == is_zero(other)) {
        let length = piece.iter().map(|block| block.len()).sum::<usize>();
        if let Some(written) = contents.get(offset..offset + length).filter(|written| !is_zero(written)) {
            copy.write_all_at(written, offset as u64)?;
        }
        offset += length;
    }
    copy.set_permissions(std::fs::metadata(from)?.permissions())
}

/// Gives one file or directory to `owner`; nothing to do for `None`.
///
/// # Errors
/// Those of chown(2).
pub fn give(path: &Path, owner: Option<&RunAs>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let (uid, gid) = owner.ids();
    nix::unistd::chown(path, Some(uid), Some(gid)).map_err(io::Error::from)
}

/// Lets the group of a tree's files read and execute what their owner may.
///
/// # Errors
/// Those of chmod(2) and readdir(3).
pub fn share_with_group(path: &Path) -> io::Result<()> {
    let status = std::fs::symlink_metadata(path)?;
    if status.is_symlink() {
        return Ok(());
    }
    let mode = status.mode() & 0o7777;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode | (mode & 0o500) >> 3))?;
    if status.is_dir() {
        for entry in std::fs::read_dir(path)? {
            share_with_group(&entry?.path())?;
        }
    }
    Ok(())
}

/// Makes a directory with this mode, owned by `owner`.
///
/// # Errors
/// Those of mkdir(2), chmod(2) and chown(2).
pub fn make_directory(path: &Path, mode: u32, owner: Option<&RunAs>) -> io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    give(path, owner)
}

/// Writes one file anew, by a rename: whoever reads it meanwhile reads all of the old or all of the new one, also where two processes write
/// it. A file of an odd mode (unreadable, read-only) is replaced, not written to.
///
/// # Errors
/// Those of the system calls; the old file is then as it was.
pub fn replace(path: &Path, contents: &[u8], mode: u32, owner: Option<&RunAs>) -> io::Result<()> {
    let mut new = path.to_path_buf().into_os_string();
    new.push(format!(".{}.new", std::process::id()));
    let new = Path::new(&new);
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = write_new(new, contents, mode, owner).and_then(|()| std::fs::rename(new, path));
    if written.is_err() {
        // It may not be there at all.
        let _ = std::fs::remove_file(new);
    }
    written
}

fn write_new(path: &Path, contents: &[u8], mode: u32, owner: Option<&RunAs>) -> io::Result<()> {
    // Never readable by others for a moment: it may be a key.
    let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    opened.write_all(contents)?;
    opened.set_permissions(std::fs::Permissions::from_mode(mode))?;
    give(path, owner)
}

/// Makes a directory that nobody else may look into, with those above it that are missing. One that is there stays as it is.
///
/// # Errors
/// Those of mkdir(2).
pub fn make_private_directories(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Makes an empty file that nobody else may read, where there is none yet.
///
/// # Errors
/// Those of open(2), also where there is one.
pub fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Writes a file that nobody else may read, in place of one that may be there.
///
/// # Errors
/// Those of open(2), fchmod(2) and write(2).
pub fn write_private(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = open_private(path)?;
    file.write_all(contents)
}

/// Copies the contents of a file to one that nobody else may read.
///
/// # Errors
/// Those of open(2), fchmod(2) and write(2).
pub fn copy_private(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    io::copy(&mut from, &mut open_private(to)?).map(drop)
}

fn open_private(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there has its own mode.
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Removes a tree that a dying process may still write to: repeats until nothing is left, at most for `limit`.
///
/// # Errors
/// Those of the last try.
pub fn remove(directory: &Path, limit: Duration) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match std::fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !directory.exists() => return Ok(()),
            Err(error) if start.elapsed() >= limit => return Err(error),
            // A file came into being between the listing and the removal. There is no event for "no more files": try again.
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// The processes whose working directory is `directory` or below it, even after its removal. Servers and clients are started with a
/// working directory inside the run directory, so this finds what a run has left. Processes that may not be looked at are left out.
#[must_use]
pub fn processes_in(directory: &Path) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    // The kernel gives real paths.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_path_buf());
    processes
        .flatten()
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let working = working_directory::of(pid)?;
            // The kernel writes ` (deleted)` behind the path of a removed directory.
            let text = working.to_str()?;
            let working = Path::new(text.strip_suffix(" (deleted)").unwrap_or(text));
            working.starts_with(&directory).then_some(pid)
        })
        .collect()
}

/// Whether `user` may search this directory and all above it, going by owner, group and mode.
#[must_use]
pub fn reachable(directory: &Path, user: &RunAs) -> bool {
    let Ok(directory) = directory.canonicalize() else { return false };
    directory.ancestors().all(|step| {
        std::fs::metadata(step).is_ok_and(|status| {
            let shift = match () {
                () if status.uid() == user.uid => 6,
                () if status.gid() == user.gid => 3,
                () => 0,
            };
            status.mode() >> shift & 1 == 1
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_keeps_modes_and_links() {
        let directory = tempfile::tempdir().expect("a directory");
        let from = directory.path().join("from");
        std::fs::create_dir_all(from.join("inner")).expect("makes");
        std::fs::write(from.join("inner/key"), "secret").expect("writes");
        std::fs::set_permissions(from.join("inner/key"), std::fs::Permissions::from_mode(0o600)).expect("chmod");
        std::fs::set_permissions(from.join("inner"), std::fs::Permissions::from_mode(0o500)).expect("chmod");
        std::os::unix::fs::symlink("inner/key", from.join("link")).expect("links");
        let to = directory.path().join("to");
        copy(&from, &to, None).expect("copies");
        assert_eq!(std::fs::read_link(to.join("link")).expect("a link"), Path::new("inner/key"));
        assert_eq!(std::fs::read(to.join("link")).expect("it leads to the copy"), b"secret");
        assert_eq!(std::fs::metadata(to.join("inner/key")).expect("there").mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(to.join("inner")).expect("there").mode() & 0o777, 0o500);
    }

    #[test]
    fn what_is_private_is_so_also_where_a_file_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let (log, copy) = (directory.path().join("log"), directory.path().join("kept/of/copy"));
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        std::fs::write(&log, "a longer text").expect("writes");
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o644)).expect("chmod");
        make_private_directories(copy.parent().expect("one")).expect("makes");
        assert_eq!(mode(&directory.path().join("kept")), 0o700);
        copy_private(&log, &copy).expect("copies");
        write_private(&log, b"text").expect("writes");
        assert_eq!((mode(&log), mode(&copy)), (0o600, 0o600));
        assert_eq!(std::fs::read(&log).expect("there"), b"text");
        assert_eq!(std::fs::read(&copy).expect("there"), b"a longer text");
        create_private(&copy).expect_err("it is there");
    }

    #[test]
    fn a_shared_tree_is_read_by_its_group_and_written_by_its_owner_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("bin/program");
        std::fs::create_dir(directory.path().join("bin")).expect("makes");
        std::fs::write(&program, "").expect("writes");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        std::fs::set_permissions(directory.path().join("bin"), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        std::os::unix::fs::symlink("/nonexistent", directory.path().join("bin/link")).expect("links");
        share_with_group(&directory.path().join("bin")).expect("shares");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").mode() & 0o777;
        assert_eq!((mode(&directory.path().join("bin")), mode(&program)), (0o750, 0o750));
    }

    #[test]
    fn a_copy_holds_the_same_and_takes_no_room_for_what_is_zero() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        std::fs::create_dir(&from).expect("makes");
        let mut contents = vec![0; 100 * BLOCK + 17];
        contents[3 * BLOCK + 5] = 1;
        contents[100 * BLOCK + 16] = 2;
        for (name, contents) in [("sparse", &contents[..]), ("empty", &[]), ("short", &[0, 0, 7])] {
            std::fs::write(from.join(name), contents).expect("writes");
        }
        copy(&from, &to, None).expect("copies");
        for name in ["sparse", "empty", "short"] {
            assert_eq!(std::fs::read(to.join(name)).expect("there"), std::fs::read(from.join(name)).expect("there"), "{name}");
        }
        let blocks = |path: PathBuf| std::fs::metadata(path).expect("there").blocks() * 512 / BLOCK as u64;
        assert!(blocks(from.join("sparse")) >= 100 && blocks(to.join("sparse")) <= 4, "{}", blocks(to.join("sparse")));
    }

    #[test]
    fn a_failed_copy_names_the_file() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = copy(&directory.path().join("nothing"), &directory.path().join("to"), None).expect_err("nothing to copy");
        assert!(error.to_string().contains("nothing"), "{error}");
    }

    #[test]
    fn a_directory_of_root_alone_is_not_reachable_for_others() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let stranger = RunAs::alone(64_000);
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(reachable(directory.path(), &stranger));
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        assert!(!reachable(directory.path(), &stranger));
        assert!(!reachable(&directory.path().join("missing"), &stranger));
    }

    #[test]
    fn a_tree_that_is_written_to_meanwhile_is_removed_in_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let tree = directory.path().join("tree");
        std::fs::create_dir(&tree).expect("makes");
        let writer = {
            let tree = tree.clone();
            std::thread::spawn(move || {
                let until = Instant::now() + Duration::from_millis(50);
                let mut number = 0;
                while Instant::now() < until {
                    number += 1;
                    let _ = std::fs::create_dir_all(tree.join(number.to_string()));
                    let _ = std::fs::write(tree.join(number.to_string()).join("file"), "x");
                }
            })
        };
        // The writer makes the tree anew: only a removal after its end lasts.
        let _ = remove(&tree, Duration::from_secs(5));
        writer.join().expect("no panic");
        remove(&tree, Duration::from_secs(5)).expect("removes");
        assert!(!tree.exists());
    }

    #[test]
    fn processes_are_found_by_their_working_directory_even_when_it_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("inner");
        std::fs::create_dir(&inner).expect("makes");
        let mut child = std::process::Command::new("sleep").arg("1000").current_dir(&inner).spawn().expect("starts");
        let pid = i32::try_from(child.id()).expect("fits");
        assert_eq!(processes_in(directory.path()), [pid]);
        std::fs::remove_dir(&inner).expect("removes");
        assert_eq!(processes_in(directory.path()), [pid]);
        child.kill().expect("kills");
        child.wait().expect("waits");
        assert!(processes_in(directory.path()).is_empty());
    }
}
