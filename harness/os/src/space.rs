//! Where a run's directory goes: to the first place that has room for it.

use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::tree;
use super::user::RunAs;

/// In memory: data directories are copied there, and nothing of them is to outlive the run.
const SHARED_MEMORY: &str = "/dev/shm";

/// The longest path of a place, in bytes. The longest name below it, a server's unix socket, must fit into the 107 bytes of unix(7).
const LONGEST: usize = 40;

/// What a run's directory needs of the place that it goes to.
#[derive(Debug, Clone, Default)]
pub struct Space {
    /// The only place to look at; `None`: `/dev/shm`, then the temporary directory (`TMPDIR`, else `/tmp`).
    pub directory: Option<PathBuf>,
    /// How many bytes must be free.
    pub bytes: u64,
    /// Whether memory is the last place to look at: for what is large and hardly ever written to.
    pub memory_last: bool,
}

/// The place that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    /// Those that were looked at before.
    pub(crate) unfit: Vec<Unfit>,
}

/// A place that a run's directory can't go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    place: PathBuf,
    cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cause {
    /// What stat(2), access(2) or statvfs(2) said.
    Unusable(String),
    /// It is a file.
    NoDirectory,
    /// Servers run as another user, who can't come there.
    Unreachable,
    /// So many bytes are free.
    Little(u64),
    /// Its path has so many bytes.
    LongPath(usize),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.display();
        match &self.cause {
            Cause::Unusable(said) => write!(f, "{place} can't be used ({said})"),
            Cause::NoDirectory => write!(f, "{place} is no directory"),
            Cause::Unreachable => {
                write!(f, "{place} can't be reached by the user that servers run as, who needs search permission all the way")
            }
            Cause::Little(free) => write!(f, "{place} has {} free", Megabytes(*free)),
            Cause::LongPath(length) => {
                write!(f, "the path {place} has {length} bytes, and unix sockets below it take no more than {LONGEST}")
            }
        }
    }
}

/// Bytes as whole megabytes, for messages: `64 MB`.
#[derive(Debug, Clone, Copy)]
pub struct Megabytes(pub u64);

impl fmt::Display for Megabytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MB", self.0 >> 20)
    }
}

/// Several places, one after the other.
pub(crate) fn list(unfit: &[Unfit]) -> String {
    unfit.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl Space {
    /// The first place that has what is asked for.
    ///
    /// # Errors
    /// What is wrong with each.
    pub(crate) fn find(&self) -> Result<Place, Vec<Unfit>> {
        let mut places = vec![PathBuf::from(SHARED_MEMORY), std::env::temp_dir()];
        if self.memory_last {
            places.reverse();
        }
        self.first_fit(&self.directory.clone().map_or(places, |directory| vec![directory]))
    }

    fn first_fit(&self, places: &[PathBuf]) -> Result<Place, Vec<Unfit>> {
        let mut unfit = Vec::new();
        for place in places {
            match self.look_at(place) {
                Ok(directory) => return Ok(Place { directory, unfit }),
                Err(cause) => unfit.push(Unfit { place: place.clone(), cause }),
            }
        }
        Err(unfit)
    }

    /// The place's absolute path, if it is fit.
    fn look_at(&self, place: &Path) -> Result<PathBuf, Cause> {
        let unusable = |error: io::Error| Cause::Unusable(error.to_string());
        // A link below a long path leads to a short one.
        let place = place.canonicalize().map_err(unusable)?;
        if !place.is_dir() {
            return Err(Cause::NoDirectory);
        }
        access(&place, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|error| unusable(error.into()))?;
        let length = place.as_os_str().as_bytes().len();
        if length > LONGEST {
            return Err(Cause::LongPath(length));
        }
        if RunAs::of_this_run().is_some_and(|user| !tree::reachable(&place, &user)) {
            return Err(Cause::Unreachable);
        }
        let status = statvfs(&place).map_err(|error| unusable(error.into()))?;
        // Of other widths elsewhere.
        #[expect(clippy::useless_conversion, reason = "the types are the platform's")]
        let free = u64::from(status.blocks_available()).saturating_mul(u64::from(status.fragment_size()));
        if free < self.bytes { Err(Cause::Little(free)) } else { Ok(place) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A directory that servers can reach.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o711)).expect("chmod");
        directory
    }

    fn fit(bytes: u64, places: &[&Path]) -> Result<Place, Vec<Unfit>> {
        let space = Space { bytes, ..Space::default() };
        space.first_fit(&places.iter().map(|place| place.to_path_buf()).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_place_with_room_is_taken_and_those_before_it_are_told() {
        let directory = directory();
        let missing = Path::new("/nonexistent");
        let place = fit(1 << 20, &[missing, directory.path()]).expect("it has a megabyte");
        assert_eq!(place.directory, directory.path().canonicalize().expect("there"));
        assert_eq!(list(&place.unfit), "/nonexistent can't be used (No such file or directory (os error 2))");
    }

    #[test]
    fn a_place_that_is_full_a_file_or_too_long_says_so() {
        let directory = directory();
        let error = list(&fit(u64::MAX, &[directory.path()]).expect_err("nothing has that"));
        assert!(error.starts_with(&format!("{} has ", directory.path().display())) && error.ends_with(" MB free"), "{error}");
        let file = directory.path().join("file");
        std::fs::write(&file, "").expect("writes");
        assert!(list(&fit(0, &[&file]).expect_err("a file")).ends_with("is no directory"));
        let long = directory.path().join("x".repeat(LONGEST));
        std::fs::create_dir(&long).expect("makes");
        assert!(list(&fit(0, &[&long]).expect_err("long")).contains("bytes, and unix sockets below it take no more than"));
    }

    #[test]
    fn a_place_that_servers_can_not_reach_says_so() {
        let directory = directory();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let fit = fit(0, &[directory.path()]);
        match RunAs::of_this_run() {
            None => assert!(fit.is_ok(), "servers are ours: {fit:?}"),
            Some(_) => assert!(list(&fit.expect_err("another's")).contains("can't be reached by the user that servers run as")),
        }
    }

    #[test]
    fn a_directory_that_is_named_is_the_only_one_to_be_looked_at() {
        let named = Space { directory: Some(PathBuf::from("/nonexistent")), ..Space::default() };
        let unfit = named.find().expect_err("it is not there");
        assert_eq!(unfit.len(), 1);
    }
}
