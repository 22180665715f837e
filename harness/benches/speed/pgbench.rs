//! `pgbench -C`: PostgreSQL's own measure of connections, with any libpq.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use model::connect::{PostgresRequest, SslMode, SslNegotiation};
use model::endpoint::Address;
use os::child::{ChildSpec, tail};
use os::toolchain::{LibpqBuild, Tool};

use crate::Error;

/// The query that our drivers send too: where a session does the same work, its backend is as long in the next connection's way.
const SCRIPT: &str = "SELECT ssl, version, cipher, client_dn, client_serial::text, issuer_dn, current_user \
                      FROM pg_stat_ssl WHERE pid = pg_backend_pid();\n";

/// How long one call may take: many times what it does.
const LIMIT: Duration = Duration::from_secs(60);

/// What pgbench tells of its connections, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Told {
    /// `average connection time`: connecting and closing.
    pub(crate) connection_ms: f64,
    /// `latency average`: a whole transaction, with connecting and closing.
    pub(crate) transaction_ms: f64,
}

/// pgbench with one libpq.
#[derive(Debug, Clone)]
pub(crate) struct Pgbench {
    program: PathBuf,
    /// Where it finds its libpq first.
    libraries: Option<PathBuf>,
    directory: PathBuf,
}

impl Pgbench {
    /// pgbench as it is installed, with the distribution's libpq. Its script, log and home directory are in `directory`.
    pub(crate) fn native(tool: &Tool, directory: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(directory.join("home"))?;
        std::fs::write(directory.join("script.sql"), SCRIPT)?;
        Ok(Self { program: tool.path.clone(), libraries: None, directory: directory.to_path_buf() })
    }

    /// The same pgbench with another libpq; `None` where the loader would not take that one.
    pub(crate) fn with(&self, build: &LibpqBuild) -> Option<Self> {
        let libraries = build.library.parent()?.to_path_buf();
        // The loader itself tells what it would load (ld.so(8)).
        let listing = Command::new(&self.program).env("LD_TRACE_LOADED_OBJECTS", "1").env("LD_LIBRARY_PATH", &libraries).output().ok()?;
        let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
        let taken = listing.contains(&format!("=> {} ", build.library.display())) && !listing.contains("not found");
        taken.then(|| Self { program: self.program.clone(), libraries: Some(libraries), directory: self.directory.clone() })
    }

    /// Makes so many connections, one after the other.
    pub(crate) async fn run(&self, request: &PostgresRequest, connections: usize) -> Result<Told, Error> {
        let log = self.directory.join("pgbench.log");
        let _ = std::fs::remove_file(&log);
        let mut spec = ChildSpec::new(&self.program, &log);
        for argument in ["-C", "-n", "-c", "1", "-j", "1", "-t"] {
            spec = spec.arg(argument);
        }
        spec = spec.arg(connections.to_string()).arg("-f").arg(self.directory.join("script.sql"));
        spec.env = self.environment(request)?;
        let mut child = spec.spawn().await?;
        let status = tokio::time::timeout(LIMIT, child.wait()).await;
        let said = tail(&log, 40);
        match status {
            Ok(Ok(status)) if status.success() => {
                told(&said).ok_or_else(|| format!("pgbench does not tell its times; it said:\n{said}").into())
            }
            Ok(Ok(status)) => Err(format!("pgbench ended with {status}; it said:\n{said}").into()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => {
                child.stop(Duration::ZERO).await;
                Err(format!("pgbench did not end within {LIMIT:?}; it said:\n{said}").into())
            }
        }
    }

    /// The request as libpq's environment variables; nothing else is inherited.
    fn environment(&self, request: &PostgresRequest) -> Result<BTreeMap<String, OsString>, Error> {
        let Address::Tcp(address) = &request.endpoint.address else { return Err("pgbench is measured over TCP only".into()) };
        let files = &request.files;
        let values = [
            ("HOME", Some(self.directory.join("home").into_os_string())),
            ("LD_LIBRARY_PATH", self.libraries.clone().map(PathBuf::into_os_string)),
            ("PGHOST", Some(request.endpoint.host.clone().into())),
            ("PGHOSTADDR", Some(address.ip().to_string().into())),
            ("PGPORT", Some(address.port().to_string().into())),
            ("PGUSER", Some(request.user.clone().into())),
            ("PGDATABASE", Some(request.database.clone().into())),
            ("PGGSSENCMODE", Some("disable".into())),
            ("PGSSLMODE", request.sslmode.map(|mode: SslMode| mode.name().into())),
            ("PGSSLNEGOTIATION", request.sslnegotiation.map(|negotiation: SslNegotiation| negotiation.name().into())),
            ("PGSSLCERT", files.certificate.clone().map(PathBuf::into_os_string)),
            ("PGSSLKEY", files.key.clone().map(PathBuf::into_os_string)),
            ("PGSSLROOTCERT", files.root.clone().map(PathBuf::into_os_string)),
        ];
        Ok(values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// Reads `latency average = 4.998 ms` and `average connection time = 4.756 ms`.
fn told(said: &str) -> Option<Told> {
    let milliseconds = |name: &str| {
        let line = said.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(" = "))?;
        line.strip_suffix(" ms")?.parse().ok()
    };
    Some(Told { connection_ms: milliseconds("average connection time")?, transaction_ms: milliseconds("latency average")? })
}
