//! How a data directory comes into being: `initdb`, and what single-user mode makes in it.
//!
//! While a case has a rule with `trust`, everybody on the machine can be any role that may log in, and can read the names of all. So no
//! superuser may log in, whoever he is and wherever he comes from: what a superuser has to do is done here, or by [`PREPARE`].

use std::time::Duration;

/// `--no-sync` and the smallest WAL segments: the result is copied for every server, and none outlives the run.
pub(crate) const OPTIONS: [&str; 6] =
    ["--username=mtls_conformance_owner", "--auth=trust", "--no-sync", "--wal-segsize=1", "--locale=C", "--encoding=UTF8"];

/// The harness's own role: it sees all sessions and can end them, and sees settings and rules. Only a rule of its own lets it in, over the private unix socket.
pub(crate) const ADMIN: &str = "mtls_conformance";

/// The function that gives user and database their names and the user its password, with a superuser's rights: for [`ADMIN`], and once. The
/// last argument says whether the role can log in afterwards.
pub(crate) const PREPARE: &str = "public.mtls_conformance_prepare";

/// Roles and database of the deployment: CloudNativePG's `bootstrap.initdb` with owner and database `app`, its replication user, and the
/// user `postgres`, which is no superuser here; and [`ADMIN`] and [`PREPARE`].
///
/// `template0`, of which nothing is made any more and which nobody can connect to, would be a third of the files to copy.
pub(crate) const ROLES: [&str; 15] = [
    "CREATE ROLE mtls_conformance LOGIN IN ROLE pg_signal_backend, pg_read_all_stats, pg_read_all_settings",
    // A failed statement would be logged with its text.
    "ALTER ROLE mtls_conformance SET log_min_error_statement = panic",
    "CREATE ROLE postgres LOGIN",
    "CREATE ROLE app LOGIN",
    "CREATE ROLE streaming_replica LOGIN REPLICATION",
    "CREATE DATABASE app OWNER app TEMPLATE template0 STRATEGY file_copy",
    "UPDATE pg_database SET datistemplate = false",
    "DROP DATABASE template0",
    // An error is raised anew, without the statement that failed: the log would have it as context.
    "CREATE FUNCTION public.mtls_conformance_prepare(login text, db text, secret text, stays boolean) RETURNS void \
     LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$ BEGIN \
     IF login <> 'app' THEN EXECUTE format('ALTER ROLE app RENAME TO %I', login); END IF; \
     IF db <> 'app' THEN EXECUTE format('ALTER DATABASE app RENAME TO %I', db); END IF; \
     EXECUTE format('ALTER ROLE %I PASSWORD %L', login, secret); \
     IF NOT stays THEN ALTER ROLE mtls_conformance NOLOGIN; END IF; \
     REVOKE EXECUTE ON FUNCTION public.mtls_conformance_prepare FROM mtls_conformance; \
     EXCEPTION WHEN OTHERS THEN RAISE EXCEPTION USING MESSAGE = SQLERRM, ERRCODE = SQLSTATE; END $$",
    "REVOKE EXECUTE ON FUNCTION public.mtls_conformance_prepare FROM PUBLIC",
    "GRANT EXECUTE ON FUNCTION public.mtls_conformance_prepare TO mtls_conformance",
    "GRANT SELECT ON pg_hba_file_rules, pg_ident_file_mappings TO mtls_conformance",
    "GRANT EXECUTE ON FUNCTION pg_hba_file_rules(), pg_ident_file_mappings() TO mtls_conformance",
    "ALTER ROLE mtls_conformance SET search_path = pg_catalog",
    "ALTER ROLE mtls_conformance_owner NOLOGIN",
];

/// How single-user mode runs them: an error ends it, and no WAL segments are kept but what is needed.
pub(crate) const SINGLE: [&str; 7] = [
    "exit_on_error=on",
    "fsync=off",
    "dynamic_shared_memory_type=mmap",
    "min_wal_size=2MB",
    "max_wal_size=2MB",
    "wal_recycle=off",
    "wal_init_zero=off",
];

/// The time that initdb and single-user mode get each: a hundred times what they take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
