//! How a data directory comes into being: `initdb`, and what single-user mode makes in it.

use std::time::Duration;

/// `--no-sync` and the smallest WAL segments: the result is copied for every server, and none outlives the run.
pub(crate) const OPTIONS: [&str; 6] =
    ["--username=postgres", "--auth=trust", "--no-sync", "--wal-segsize=1", "--locale=C", "--encoding=UTF8"];

/// The harness's own superuser: only a rule of its own lets it in, over the private unix socket.
pub(crate) const ADMIN: &str = "mtls_conformance";

/// Roles and database of the deployment: CloudNativePG's `bootstrap.initdb` with owner and database `app`, and its replication user;
/// and [`ADMIN`].
/// `template0`, of which nothing is made any more, is a quarter of the files to copy.
pub(crate) const ROLES: [&str; 6] = [
    "CREATE ROLE mtls_conformance LOGIN SUPERUSER",
    "CREATE ROLE app LOGIN",
    "CREATE ROLE streaming_replica LOGIN REPLICATION",
    "CREATE DATABASE app OWNER app TEMPLATE template0 STRATEGY file_copy",
    "UPDATE pg_database SET datistemplate = false WHERE datname = 'template0'",
    "DROP DATABASE template0",
];

/// How single-user mode runs them: an error ends it, and few WAL segments are kept.
pub(crate) const SINGLE: [&str; 5] =
    ["exit_on_error=on", "fsync=off", "dynamic_shared_memory_type=mmap", "min_wal_size=2MB", "max_wal_size=2MB"];

/// The time that initdb and single-user mode get each: a hundred times what they take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
