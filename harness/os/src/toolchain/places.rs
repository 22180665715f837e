//! Where to look.

use std::path::{Path, PathBuf};

use crate::access::{self, Use};

/// The folders that are searched; tests give their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// The folder that `harness/toolchain/setup.sh` fills; it need not exist.
    pub toolchain: PathBuf,
    /// Folders with one folder a major version, each with `bin/postgres`: `/usr/lib/postgresql` on Debian.
    pub postgres_roots: Vec<PathBuf>,
    /// Folders of shared libraries, for the distribution's libpq.
    pub libraries: Vec<PathBuf>,
    /// The folders of `PATH`.
    pub path: Vec<PathBuf>,
    /// Folders of programs that the distribution keeps off the `PATH` of ordinary users: `/usr/sbin` on Debian.
    pub system_programs: Vec<PathBuf>,
}

impl Places {
    /// Debian's and other distributions' usual folders, and `PATH`.
    #[must_use]
    pub fn of_this_machine(toolchain: &Path) -> Self {
        let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
        Self {
            toolchain: toolchain.to_path_buf(),
            postgres_roots: vec![PathBuf::from("/usr/lib/postgresql")],
            libraries: vec![PathBuf::from(triplet), PathBuf::from("/usr/lib64"), PathBuf::from("/usr/lib")],
            path: std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            system_programs: vec![PathBuf::from("/usr/sbin")],
        }
    }

    /// The first program of that name on the path.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        self.path.iter().map(|folder| folder.join(name)).find(|path| is_program(path))
    }
}

/// Whether `path` is a file that this user may execute.
pub(super) fn is_program(path: &Path) -> bool {
    path.is_file() && access::may(path, Use::Execute)
}

/// The entries of a folder in the order of their names; none if it can't be read.
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// The file name as text; empty if it is not text.
pub(super) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

const FOLDER: &str = ".toolchain";

pub(super) fn toolchain_directory(variable: Option<PathBuf>, working: Option<&Path>, executable: Option<&Path>) -> PathBuf {
    if let Some(directory) = variable.filter(|path| !path.as_os_str().is_empty()) {
        return directory;
    }
    [working, executable]
        .into_iter()
        .flatten()
        .flat_map(Path::ancestors)
        .map(|folder| folder.join(FOLDER))
        .find(|folder| folder.is_dir())
        .unwrap_or_else(|| working.unwrap_or(Path::new(".")).join(FOLDER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_the_toolchain_even_where_it_does_not_exist() {
        let named = toolchain_directory(Some(PathBuf::from("/nowhere/at/all")), None, None);
        assert_eq!(named, PathBuf::from("/nowhere/at/all"));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let working = tempfile::tempdir().expect("a temporary directory");
        let found = toolchain_directory(Some(PathBuf::new()), Some(working.path()), None);
        assert_eq!(found, working.path().join(".toolchain"));
    }

    #[test]
    fn the_toolchain_is_found_upwards_from_the_working_directory_before_the_executable() {
        let base = tempfile::tempdir().expect("a temporary directory");
        let here = base.path().join("clone/harness/src");
        let program = base.path().join("other/target/release/mtls-conformance");
        for folder in [&here, &base.path().join("clone/.toolchain"), &base.path().join("other/.toolchain")] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        assert_eq!(toolchain_directory(None, Some(&here), Some(&program)), base.path().join("clone/.toolchain"));
        let elsewhere = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(toolchain_directory(None, Some(elsewhere.path()), Some(&program)), base.path().join("other/.toolchain"));
    }
}
