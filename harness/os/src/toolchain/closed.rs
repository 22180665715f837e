//! Pieces that are there, or could be, and that this user may not read or execute.

use std::path::PathBuf;

use super::names::{NAUTOBOT_DRIVERS, REDIS_PYTHON_DRIVER};
use super::places::{Places, entries, name_of};
use super::{postgres, python};
use crate::access::{Closed, Use, closed};

/// What keeps this user from a piece, by its name in the list of what is missing; `None` where it is just not there.
pub(super) fn piece(name: &str, places: &Places) -> Option<Closed> {
    let all = match name {
        "redis" => on_path(places, "redis-server"),
        "haproxy" => on_path(places, name),
        "openssl" | "pgbench" => on_path(places, name),
        _ if NAUTOBOT_DRIVERS.contains(&name) => environment(places, python::NAUTOBOT),
        REDIS_PYTHON_DRIVER => {
            let sets = entries(&places.toolchain.join("python"));
            let of_psycopg2 = sets.iter().map(|set| name_of(set)).filter(|set| *set != python::NAUTOBOT);
            std::iter::once(python_folder(places)).chain(of_psycopg2.flat_map(|set| environment(places, set))).collect()
        }
        _ => match (name.strip_prefix("postgres-"), name.strip_prefix("libpq-")) {
            (Some(major), _) => server(places, major),
            (None, Some(wheel)) if wheel.starts_with("psycopg2-") => environment(places, wheel),
            (None, Some(major)) => library(places, major),
            (None, None) => environment(places, name),
        },
    };
    all.into_iter().find_map(|(path, wanted)| closed(&path, wanted))
}

/// What opens it, or does without.
pub(super) fn way_out(closed: &Closed, places: &Places) -> String {
    let own = "bring your own with `MTLS_CONFORMANCE_TOOLCHAIN=DIR make setup`, and give that variable to the harness too";
    let owner = closed.owner.as_deref().unwrap_or("its owner");
    let toolchain = std::path::absolute(&places.toolchain).unwrap_or_else(|_| places.toolchain.clone());
    if closed.at.starts_with(&toolchain) {
        format!("as {owner}, run `chmod -R go+rX {}`; or {own}", toolchain.display())
    } else {
        format!("ask {owner} to open it; or {own}")
    }
}

/// Something that is looked for, and what for.
type Wanted = (PathBuf, Use);

fn on_path(places: &Places, program: &str) -> Vec<Wanted> {
    places.path.iter().chain(&places.system_programs).map(|folder| (folder.join(program), Use::Execute)).collect()
}

fn builds(places: &Places) -> Wanted {
    (places.toolchain.join("node_modules"), Use::Read)
}

fn native(places: &Places, major: &str) -> Option<PathBuf> {
    Some(places.toolchain.join("node_modules").join(format!("postgresql-{major}{}", postgres::suffix()?)).join("native"))
}

fn server(places: &Places, major: &str) -> Vec<Wanted> {
    let distribution = places.postgres_roots.iter().map(|root| root.join(major).join("bin"));
    let bins = distribution.chain(native(places, major).map(|native| native.join("bin")));
    let programs = bins.flat_map(|bin| ["postgres", "initdb"].map(|program| (bin.join(program), Use::Execute)));
    std::iter::once(builds(places)).chain(programs).collect()
}

fn library(places: &Places, major: &str) -> Vec<Wanted> {
    let library = native(places, major).map(|native| (native.join("lib/libpq.so.5"), Use::Read));
    std::iter::once(builds(places)).chain(library).collect()
}

fn python_folder(places: &Places) -> Wanted {
    (places.toolchain.join("python"), Use::Read)
}

/// What of a Python environment is used: the marker of a finished one, the interpreter, and the packages.
fn environment(places: &Places, set: &str) -> Vec<Wanted> {
    let folder = places.toolchain.join("python").join(set);
    let libraries = entries(&folder.join("lib")).into_iter().map(|python| python.join("site-packages"));
    let packages = libraries.flat_map(|packages| {
        let own = ["psycopg2", "psycopg2_binary.libs", "redis", "django", "django_redis", "kombu"].map(|package| packages.join(package));
        std::iter::once(packages).chain(own)
    });
    let mut wanted = vec![
        python_folder(places),
        (folder.join(".complete"), Use::Read),
        (folder.join("bin/python"), Use::Execute),
        (folder.join("lib"), Use::Read),
    ];
    wanted.extend(packages.map(|package| (package, Use::Read)));
    wanted
}
