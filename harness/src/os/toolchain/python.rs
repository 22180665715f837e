//! The private Python environments.

use std::path::PathBuf;

use super::places::{entries, is_program, name_of};
use super::{Places, PythonBuild, REDIS_PYTHON_DRIVER};

/// One environment.
#[derive(Debug)]
pub(super) struct Set {
    /// Its folder's name, which is also the driver's: `psycopg2-2.9.12`.
    pub(super) name: String,
    /// Its interpreter.
    pub(super) interpreter: PathBuf,
    /// Its folders of packages; one, unless it was made anew with another Python.
    pub(super) site_packages: Vec<PathBuf>,
}

/// The environments that the set-up finished, by name. One without the marker is half made.
pub(super) fn sets(places: &Places) -> Vec<Set> {
    entries(&places.toolchain.join("python"))
        .into_iter()
        .filter(|folder| folder.join(".complete").is_file())
        .filter_map(|folder| {
            let interpreter = folder.join("bin/python");
            let site_packages = entries(&folder.join("lib"))
                .into_iter()
                .filter(|path| name_of(path).starts_with("python"))
                .map(|path| path.join("site-packages"))
                .collect();
            // A link to a Python that was removed since is no program.
            is_program(&interpreter).then(|| Set { name: name_of(&folder).to_owned(), interpreter, site_packages })
        })
        .collect()
}

/// The drivers that run in them: psycopg2 in each, and redis-py in the newest that has it.
pub(super) fn find(places: &Places) -> Vec<PythonBuild> {
    let sets = sets(places);
    let has = |set: &Set, package: &str| set.site_packages.iter().any(|folder| folder.join(package).is_dir());
    let build = |driver: &str, set: &Set| PythonBuild { driver: driver.to_owned(), interpreter: set.interpreter.clone() };
    let psycopg2 = sets.iter().filter(|set| has(set, "psycopg2")).map(|set| build(&set.name, set));
    let redis = sets.iter().rev().find(|set| has(set, "redis")).map(|set| build(REDIS_PYTHON_DRIVER, set));
    psycopg2.chain(redis).collect()
}
