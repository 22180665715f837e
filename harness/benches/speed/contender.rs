//! Who makes connections: our drivers, and pgbench.

use std::sync::Arc;
use std::time::{Duration, Instant};

use driver::Driver;
use driver::exec::{ExecDriver, Program};
use driver::rustls::{RustlsDriver, RustlsOptions};
use driver::tls::KxGroups;
use model::connect::{ConnectRequest, PostgresRequest, SslNegotiation};
use model::observation::{ClientOutcome, Phases};
use serde::Serialize;

use crate::pgbench::Pgbench;
use crate::site::Site;
use crate::statistics::{mean, median};
use crate::{Error, say};

/// How long one connection may take: far above what a busy machine needs.
const LIMIT: Duration = Duration::from_secs(30);

/// The first libpq with `sslnegotiation`, as `PQlibVersion` numbers it.
const FIRST_WITH_DIRECT: u32 = 170_000;

/// What a contender is, and what it is held against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// Our driver `rustls`: held against the distribution's libpq.
    Rustls,
    /// Our libpq driver: held against pgbench with the same library, or the distribution's.
    Libpq,
    /// `pgbench -C`, which connects anew for each transaction: the yardstick of our libpq driver.
    Pgbench,
}

enum Means {
    Driver(Arc<dyn Driver>),
    Pgbench(Pgbench),
}

/// A client that makes connections one after the other.
pub(crate) struct Contender {
    /// Its name in tables and in `bench.json`.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// The libpq it uses, by our driver's name.
    pub(crate) libpq: Option<String>,
    /// Whether that is the distribution's.
    pub(crate) of_distribution: bool,
    /// The versions of its libraries, as its driver tells them.
    pub(crate) version: String,
    direct: bool,
    means: Means,
}

/// A number of connections in a row, in milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// First packet to ready session: the median, which pgbench doesn't tell.
    pub(crate) connect_p50_ms: Option<f64>,
    /// First packet to ready session: the mean. pgbench's also holds the closing.
    pub(crate) connect_ms: f64,
    /// The whole call: the mean. Connecting, one query, closing; our libpq driver's also the pipe to its child.
    pub(crate) whole_ms: f64,
    /// Every connection's phases; empty for pgbench.
    pub(crate) phases: Vec<Phases>,
}

impl Contender {
    /// Everybody who is installed. Those that can't be started are told and left out.
    pub(crate) async fn all(site: &Site) -> Result<Vec<Self>, Error> {
        let mut all = vec![
            rustls("rustls", RustlsOptions::default()),
            rustls("rustls, P-256 first", RustlsOptions { kx_groups: KxGroups::P256First }),
        ];
        let directory = site.directory().join("clients");
        std::fs::create_dir_all(&directory)?;
        let native = site.toolchain.pgbench.as_ref().map(|tool| Pgbench::native(tool, &directory)).transpose()?;
        if native.is_none() {
            say(
                "pgbench is not installed: connections are measured without their yardstick (it is in the distribution's postgresql package)",
            );
        }
        for build in &site.toolchain.libpq {
            let of_distribution = build.origin == "distribution";
            let driver = match Program::libpq(&site.harness, build, &directory) {
                Ok(program) => ExecDriver::start(program).await,
                Err(error) => Err(error),
            };
            let driver = match driver {
                Ok(driver) => driver,
                Err(error) => {
                    say(&format!("left out: {error}"));
                    continue;
                }
            };
            let info = driver.info().clone();
            let pgbench = match &native {
                Some(native) if of_distribution => Some(native.clone()),
                Some(native) => native.with(build),
                None => None,
            };
            let contender = |name: String, kind, means| Self {
                name,
                kind,
                libpq: Some(build.driver.clone()),
                of_distribution,
                version: info.version.clone(),
                direct: info.libpq.is_some_and(|version| version >= FIRST_WITH_DIRECT),
                means,
            };
            all.push(contender(build.driver.clone(), Kind::Libpq, Means::Driver(Arc::new(driver))));
            all.extend(pgbench.map(|pgbench| contender(format!("pgbench, {}", build.driver), Kind::Pgbench, Means::Pgbench(pgbench))));
        }
        Ok(all)
    }

    /// Whether it can make such a connection.
    pub(crate) fn can(&self, request: &PostgresRequest) -> bool {
        self.direct || request.sslnegotiation != Some(SslNegotiation::Direct)
    }

    /// Makes so many connections, one after the other; each must be a session, over TLS or not as `tls` says.
    pub(crate) async fn round(&self, request: &PostgresRequest, tls: bool, connections: usize) -> Result<Round, Error> {
        let driver = match &self.means {
            Means::Driver(driver) => driver,
            Means::Pgbench(pgbench) => {
                let told = pgbench.run(request, connections).await?;
                return Ok(Round { connect_ms: told.connection_ms, whole_ms: told.transaction_ms, ..Round::default() });
            }
        };
        let request = ConnectRequest::Postgres(request.clone());
        let mut phases = Vec::with_capacity(connections);
        let begun = Instant::now();
        for _ in 0..connections {
            let observation = driver.connect(&request, LIMIT).await?;
            match observation.outcome {
                ClientOutcome::Session(session) if session.tls == tls => phases.push(observation.phases),
                ClientOutcome::Session(session) => return Err(format!("{}: TLS is {}, not {tls}", self.name, session.tls).into()),
                ClientOutcome::Refused(refused) => return Err(format!("{} was refused: {}", self.name, refused.text).into()),
            }
        }
        let whole = begun.elapsed();
        let connects: Vec<f64> = phases.iter().filter_map(|phases| phases.connect_ns).map(milliseconds).collect();
        let connect_ms = mean(&connects).ok_or_else(|| format!("{} tells no connect times", self.name))?;
        let whole_ms = whole.as_secs_f64() * 1e3 / connections as f64;
        Ok(Round { connect_p50_ms: median(&connects), connect_ms, whole_ms, phases })
    }

    /// Ends what it has started.
    pub(crate) async fn close(&self) {
        if let Means::Driver(driver) = &self.means {
            driver.close().await;
        }
    }
}

fn rustls(name: &str, options: RustlsOptions) -> Contender {
    let driver = RustlsDriver::new(options);
    Contender {
        name: name.to_owned(),
        kind: Kind::Rustls,
        libpq: None,
        of_distribution: false,
        version: driver.info().version.clone(),
        direct: true,
        means: Means::Driver(Arc::new(driver)),
    }
}

pub(crate) fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
