//! PostgreSQL server builds.

use std::path::{Path, PathBuf};

use super::builds::PostgresBuild;
use super::places::{Places, entries, is_program, name_of};
use super::{openssl, program};

/// All builds, oldest first, one a major version.
pub(super) fn find(places: &Places) -> Vec<PostgresBuild> {
    let candidates = candidates(places);
    let mut builds: Vec<PostgresBuild> = std::thread::scope(|scope| {
        let asked: Vec<_> = candidates.into_iter().map(|(bin, origin)| scope.spawn(move || build(bin, origin))).collect();
        // A build that can't say its version can't serve either: it is left out.
        asked.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    });
    // Stable: of two builds of one major, the first candidate stays first.
    builds.sort_by_key(|build| build.major);
    builds.dedup_by_key(|build| build.major);
    builds
}

/// The folders of programs in the order of preference.
fn candidates(places: &Places) -> Vec<(PathBuf, &'static str)> {
    let versioned = places.postgres_roots.iter().flat_map(|root| entries(root)).map(|folder| folder.join("bin"));
    let on_path = places.path.iter().filter_map(|folder| real_bin(folder));
    // Other distributions and PGDG's RPMs tell through pg_config.
    let configured = places.program("pg_config").and_then(|pg_config| program::says(&pg_config, "--bindir")).map(PathBuf::from);
    let mut all: Vec<(PathBuf, &'static str)> =
        versioned.chain(on_path).chain(configured).filter(|bin| is_server(bin)).map(|bin| (bin, "distribution")).collect();
    all.extend(ours(places).into_iter().map(|native| native.join("bin")).filter(|bin| is_server(bin)).map(|bin| (bin, "toolchain")));
    let mut seen = Vec::new();
    all.retain(|(bin, _)| {
        let new = !seen.contains(bin);
        seen.push(bin.clone());
        new
    });
    all
}

/// The `native` folders of our builds for this machine's processor.
pub(super) fn ours(places: &Places) -> Vec<PathBuf> {
    let Some(suffix) = suffix() else { return Vec::new() };
    entries(&places.toolchain.join("node_modules"))
        .into_iter()
        .filter(|folder| {
            let name = name_of(folder);
            name.starts_with("postgresql-") && name.ends_with(suffix)
        })
        .map(|folder| folder.join("native"))
        .collect()
}

/// How the names of our builds' packages end on this machine's processor; `None` where there are none.
pub(super) fn suffix() -> Option<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Some("-linux-x64"),
        "aarch64" => Some("-linux-arm64"),
        _ => None,
    }
}

/// Where a `postgres` on the path really is, when it is a link: its other programs are there.
fn real_bin(folder: &Path) -> Option<PathBuf> {
    let real = folder.join("postgres").canonicalize().ok()?;
    real.parent().map(Path::to_path_buf)
}

fn is_server(bin: &Path) -> bool {
    is_program(&bin.join("postgres")) && is_program(&bin.join("initdb"))
}

fn build(bin: PathBuf, origin: &'static str) -> Option<PostgresBuild> {
    let version = program::postgres_version(&program::says(&bin.join("postgres"), "--version")?)?;
    Some(PostgresBuild { major: program::postgres_major(&version)?, version, openssl: openssl::of_server(&bin), bin, origin })
}
