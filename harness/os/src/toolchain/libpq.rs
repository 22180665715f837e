//! The libpq libraries that can be loaded.

use std::path::{Path, PathBuf};

use super::builds::LibpqBuild;
use super::places::{Places, entries, name_of};
use super::{postgres, python};
use crate::access::{self, Use};

const SONAME: &str = "libpq.so.5";

/// All of them: the distribution's, ours of the majors that the distribution's is not, and those inside the wheels.
pub(super) fn find(places: &Places) -> Vec<LibpqBuild> {
    let distribution = places.libraries.iter().filter_map(|folder| numbered(&folder.join(SONAME), "distribution"));
    let ours = postgres::ours(places).into_iter().filter_map(|native| numbered(&native.join("lib").join(SONAME), "toolchain"));
    let mut builds: Vec<(u16, LibpqBuild)> = distribution.chain(ours).collect();
    // Stable: the distribution's stays first.
    builds.sort_by_key(|(major, _)| *major);
    builds.dedup_by_key(|(major, _)| *major);
    builds
        .into_iter()
        .map(|(_, build)| build)
        .chain(python::sets(places).iter().filter(|set| set.is_of_psycopg2()).filter_map(in_wheel))
        .collect()
}

/// A library whose file name tells PostgreSQL's major version: `libpq.so.5` is a link to `libpq.so.5.17`.
fn numbered(library: &Path, origin: &'static str) -> Option<(u16, LibpqBuild)> {
    let real = library.canonicalize().ok().filter(|real| access::may(real, Use::Read))?;
    let major = name_of(&real).strip_prefix(SONAME)?.strip_prefix('.')?.parse().ok()?;
    Some((major, LibpqBuild { driver: format!("libpq-{major}"), library: library.to_path_buf(), origin }))
}

/// The one that the psycopg2-binary wheel brings: `psycopg2_binary.libs/libpq-<hash>.so.5.16`.
fn in_wheel(set: &python::Set) -> Option<LibpqBuild> {
    let library = set.site_packages.iter().find_map(|folder| wheel_library(&folder.join("psycopg2_binary.libs")))?;
    Some(LibpqBuild { driver: format!("libpq-{}", set.name), library, origin: "psycopg2-binary wheel" })
}

fn wheel_library(folder: &Path) -> Option<PathBuf> {
    entries(folder).into_iter().find(|path| is_libpq(path) && access::may(path, Use::Read))
}

fn is_libpq(path: &Path) -> bool {
    name_of(path).starts_with("libpq-") && name_of(path).contains(".so")
}
