//! The private Python environments.

use std::path::PathBuf;

use super::builds::PythonBuild;
use super::names::{NAUTOBOT_DRIVERS, REDIS_PYTHON_DRIVER};
use super::places::{Places, entries, is_program, name_of};
use crate::access::{self, Use};

/// The environment with the clients of Nautobot.
pub(super) const NAUTOBOT: &str = "nautobot";

/// A virtual environment below `python/` of our toolchain, with one of our requirement sets installed.
#[derive(Debug)]
pub(super) struct Set {
    /// Its folder's name, which is also the driver's: `psycopg2-2.9.12`.
    pub(super) name: String,
    /// Its `bin/python`, which sees its own packages only.
    pub(super) interpreter: PathBuf,
    /// Its folders of packages; one, unless it was made anew with another Python.
    pub(super) site_packages: Vec<PathBuf>,
}

impl Set {
    /// Whether it is named after the release of psycopg2 that it is there for.
    pub(super) fn is_of_psycopg2(&self) -> bool {
        self.name != NAUTOBOT
    }

    fn has(&self, package: &str) -> bool {
        self.site_packages.iter().map(|folder| folder.join(package)).any(|folder| folder.is_dir() && access::may(&folder, Use::Read))
    }
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

/// The drivers that run in them: psycopg2 in each, redis-py in the newest that has it, and those of Nautobot in an environment of their own.
pub(super) fn find(places: &Places) -> Vec<PythonBuild> {
    let (sets, nautobot): (Vec<Set>, Vec<Set>) = sets(places).into_iter().partition(Set::is_of_psycopg2);
    let build = |driver: &str, set: &Set| PythonBuild { driver: driver.to_owned(), interpreter: set.interpreter.clone() };
    let psycopg2 = sets.iter().filter(|set| set.has("psycopg2")).map(|set| build(&set.name, set));
    let redis = sets.iter().rev().find(|set| set.has("redis")).map(|set| build(REDIS_PYTHON_DRIVER, set));
    let nautobot = nautobot.iter().filter(|set| ["django", "django_redis", "kombu", "psycopg2"].iter().all(|package| set.has(package)));
    let nautobot = nautobot.flat_map(|set| NAUTOBOT_DRIVERS.map(|driver| build(driver, set)));
    psycopg2.chain(redis).chain(nautobot).collect()
}
