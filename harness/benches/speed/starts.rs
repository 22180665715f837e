//! Server starts: from nothing but the cached data directory to the first answered query over mutual TLS.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use driver::Driver;
use driver::redis::RedisDriver;
use driver::rustls::{RustlsDriver, RustlsOptions};
use environment::Environment as _;
use model::connect::{ConnectRequest, Password, RedisRequest, RedisTls};
use model::endpoint::{Address, Endpoint};
use model::observation::ClientOutcome;
use model::server::{DeploymentKind, ServerKey, Service};
use serde::Serialize;

use crate::args::Effort;
use crate::site::{Site, Stand};
use crate::{Error, say};

/// What the issue asks for.
pub(crate) const GOAL_MS: f64 = 500.0;

/// How long the first answer may take.
const LIMIT: Duration = Duration::from_secs(30);

/// The starts of one server.
#[derive(Debug, Serialize)]
pub(crate) struct Starts {
    /// Its key, such as `postgres-17-documented`.
    pub(crate) server: String,
    /// What the program says of its version.
    pub(crate) version: String,
    /// Whether it is the first server of its version in its environment, which also looks at the build.
    pub(crate) first: bool,
    /// Milliseconds to a server that has its configuration and listens.
    pub(crate) ready_ms: Vec<f64>,
    /// Milliseconds to the first answered query over mutual TLS.
    pub(crate) answered_ms: Vec<f64>,
}

/// A server to start, and what is known of its starts.
struct Server {
    key: ServerKey,
    starts: Starts,
}

/// Measures every server that is installed.
pub(crate) fn measure(site: &Site, effort: &Effort) -> Result<Vec<Starts>, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut groups = groups(site);
        // One that is not counted fills the cache.
        for sample in 0..=effort.starts {
            say(&format!("server starts: {sample} of {}", effort.starts));
            for group in &mut groups {
                start(site, group, sample > 0).await?;
            }
        }
        Ok(groups.into_iter().flatten().map(|server| server.starts).collect())
    })
}

/// Servers by build: those of one are started one after the other in one environment, as in a run.
fn groups(site: &Site) -> Vec<Vec<Server>> {
    let server = |key: ServerKey, version: &str, first| Server {
        key,
        starts: Starts { server: key.to_string(), version: version.to_owned(), first, ready_ms: Vec::new(), answered_ms: Vec::new() },
    };
    let postgres = site.toolchain.postgres.iter().map(|build| {
        let key = |deployment| ServerKey { service: Service::Postgres, version: Some(build.major), deployment };
        vec![server(key(DeploymentKind::Documented), &build.version, true), server(key(DeploymentKind::Cnpg), &build.version, false)]
    });
    let redis = site.toolchain.redis.iter().map(|tool| {
        let key = ServerKey { service: Service::Redis, version: None, deployment: DeploymentKind::Documented };
        vec![server(key, &tool.version, true)]
    });
    postgres.chain(redis).collect()
}

async fn start(site: &Site, group: &mut [Server], counts: bool) -> Result<(), Error> {
    let stand = site.stand("starts")?;
    // Issued before the clock runs: credentials belong to the run, not to the server.
    stand.client_files()?;
    for Server { key, starts } in group {
        let begun = Instant::now();
        let server = stand.environment.server(*key).await?;
        let ready = begun.elapsed();
        first_answer(site, &stand, *key, server.address(), server.password()).await?;
        if counts {
            starts.ready_ms.push(ready.as_secs_f64() * 1e3);
            starts.answered_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    stand.close().await;
    Ok(())
}

/// One query over mutual TLS.
async fn first_answer(site: &Site, stand: &Stand, key: ServerKey, address: SocketAddr, password: Password) -> Result<(), Error> {
    let (driver, request): (Box<dyn Driver>, _) = match key.service {
        Service::Postgres => {
            let request = site.postgres_request(stand, address)?;
            (Box::new(RustlsDriver::new(RustlsOptions::default())), ConnectRequest::Postgres(request))
        }
        Service::Redis => {
            let host = site.redis_host().ok_or("the manifests describe no Redis")?;
            let request = RedisRequest {
                endpoint: Endpoint { host, address: Address::Tcp(address) },
                tls: Some(RedisTls::VerifyFull),
                files: stand.client_files()?,
                password: Some(password),
                min_tls: None,
                max_tls: None,
                env: BTreeMap::new(),
            };
            (Box::new(RedisDriver::new()), ConnectRequest::Redis(request))
        }
    };
    match driver.connect(&request, LIMIT).await?.outcome {
        ClientOutcome::Session(_) => Ok(()),
        ClientOutcome::Refused(refused) => Err(format!("{key} refused its own client: {}", refused.text).into()),
    }
}
