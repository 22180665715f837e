//! How much room a run's directory needs.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{EnvironmentKind, SessionOptions, default_jobs};
use model::case::Case;
use model::server::{ServerKey, Service};
use os::space::Space;
use os::tree;
use os::user::RunAs;
use run::schedule::timelines_at_a_time;

const MEGABYTE: u64 = 1 << 20;

/// A PostgreSQL with its data directory, certificates and logs.
const POSTGRES: u64 = 28 * MEGABYTE;

/// A Redis with its certificates and logs.
const REDIS: u64 = 4 * MEGABYTE;

/// Credentials, what clients write, and a data directory that is being prepared.
const REST: u64 = 40 * MEGABYTE;

/// A copy of a PostgreSQL build.
const BUILD: u64 = 64 * MEGABYTE;

/// What the cases need, by the servers that run at a time. In containers, servers have their files there.
pub(super) fn needed(options: &SessionOptions, cases: &[Arc<Case>]) -> Space {
    let directory = options.run_directory.clone();
    if !matches!(options.environment, EnvironmentKind::Local) {
        return Space { directory, bytes: REST, memory_last: false };
    }
    let of = |key: &ServerKey| if key.service == Service::Postgres { POSTGRES } else { REDIS };
    let (timelines, others): (Vec<&Arc<Case>>, Vec<_>) =
        cases.iter().filter(|case| case.skip.is_none()).partition(|case| case.timeline.is_some());
    let shared: u64 = others.iter().map(|case| case.key).collect::<BTreeSet<_>>().iter().map(of).sum();
    let at_a_time = timelines.len().min(timelines_at_a_time(default_jobs()));
    // With a replica each.
    let own = timelines.iter().map(|case| of(&case.key)).max().unwrap_or(0) * 2 * at_a_time as u64;
    let copied = copied_builds(options, cases) * BUILD;
    Space { directory, bytes: shared.max(own) + copied + REST, memory_last: copied > 0 }
}

/// How many builds must be copied, since the servers' user can't reach them: below the home directory of root, for one.
fn copied_builds(options: &SessionOptions, cases: &[Arc<Case>]) -> u64 {
    let Some(user) = RunAs::of_this_run() else { return 0 };
    let majors: BTreeSet<u16> = cases.iter().filter(|case| case.skip.is_none()).filter_map(|case| case.key.version).collect();
    let builds = options.toolchain.postgres.iter().filter(|build| majors.contains(&build.major));
    builds.filter(|build| !tree::reachable(&build.bin, &user)).count() as u64
}
