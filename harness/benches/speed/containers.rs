//! The same cases with servers in containers and by processes on this machine, and how long a server in a container takes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use environment::container::engine::Engine;
use environment::container::{self, ContainerOptions, FoundImages};
use environment::{Environment as _, ManifestConfigurator, ServersOptions};
use load::images::{ImageSettings, Images};
use model::image::ImageUse;
use model::server::{DeploymentKind, ServerKey, Service};
use os::rundir::RunDir;
use os::space::Space;
use report::tables::Rows;
use serde::Serialize;

use crate::site::Site;
use crate::statistics::{median, paired_ratio, range};
use crate::table::{WIDTH, number};
use crate::throughput::{self, Run};
use crate::{Error, say};

/// A run's time in containers as a multiple of the same run's on this machine, at most.
const RATIO_GOAL: f64 = 2.0;

/// Milliseconds until a server in a container is ready, at most.
const READY_GOAL_MS: f64 = 3000.0;

/// Images that are built here: the servers are Debian's, as most of those on a Debian are.
const SET: &str = "offline";

/// The versions of PostgreSQL that the set has.
const VERSIONS: [u16; 2] = [15, 17];

/// The scenarios that say the most about TLS, and that both environments can run.
const SCENARIOS: [&str; 2] = ["postgres/*", "redis/*"];

/// Of each family of clients one.
const DRIVERS: &str = "rustls,libpq-15,psycopg2-2.9.12,redis-rs,redis-py";

/// Starts of servers in containers, and whole runs with all servers in containers beside the same here.
#[derive(Debug, Serialize)]
pub(crate) struct Containers {
    /// Where the engine listens.
    engine: String,
    /// Whole runs took one in so many cases.
    every: usize,
    pairs: Vec<Pair>,
    /// Milliseconds until the environment was there, without a server: its networks, and the containers from its beginning.
    environment_ms: Vec<f64>,
    starts: Vec<Start>,
}

/// One run right after the other.
#[derive(Debug, Serialize)]
struct Pair {
    local: Run,
    container: Run,
}

/// The starts of one server.
#[derive(Debug, Serialize)]
struct Start {
    /// Its key, such as `postgres-17-documented`.
    server: String,
    /// Whether it found a container that was there already.
    warm: bool,
    /// Milliseconds from the request to a server that has its configuration and listens.
    ready_ms: Vec<f64>,
}

/// Measures the starts, then the runs. Fails where no engine answers, or an image of [`SET`] is not there.
pub(crate) fn measure(site: &Site, quick: bool) -> Result<Containers, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let engine = Engine::connect().await?;
        let images = Images::resolve(&ImageSettings { set: Some(SET.to_owned()), ..ImageSettings::default() })?;
        for image_use in uses().into_keys() {
            let candidates: Vec<String> = images.candidates(image_use)?.iter().map(|candidate| candidate.reference.to_string()).collect();
            let mut there = false;
            for candidate in &candidates {
                there |= engine.present(candidate).await?;
            }
            if !there {
                return Err(format!("there is none of the images {}; `make images` builds them", candidates.join(", ")).into());
            }
        }
        let images = FoundImages::look(&engine, &images, uses()).await;
        let mut measured = Containers {
            engine: engine.host().to_owned(),
            every: if quick { 10 } else { 1 },
            pairs: Vec::new(),
            environment_ms: Vec::new(),
            starts: SERVERS.map(|(key, warm)| Start { server: key.to_string(), warm, ready_ms: Vec::new() }).into(),
        };
        // The first of each fills caches, and is not counted.
        for sample in 0..=if quick { 2 } else { 10 } {
            say(&format!("starts in containers: {sample}"));
            let begun = start(site, &engine, &images).await?;
            if sample > 0 {
                measured.environment_ms.push(begun.environment_ms);
                for (start, ready_ms) in measured.starts.iter_mut().zip(begun.ready_ms) {
                    start.ready_ms.push(ready_ms);
                }
            }
        }
        for sample in 0..=if quick { 1 } else { 3 } {
            say(&format!("whole runs here and in containers: {sample}"));
            let every = if sample == 0 { 50 } else { measured.every };
            let pair = Pair { local: run(site, "local", every).await?, container: run(site, "container", every).await? };
            if sample > 0 {
                measured.pairs.push(pair);
            }
        }
        Ok(measured)
    })
}

/// What images are needed for: so that some servers find a container, and others start one.
fn uses() -> BTreeMap<ImageUse, usize> {
    VERSIONS.map(ImageUse::Postgres).into_iter().chain([ImageUse::Redis, ImageUse::Clients]).map(|image_use| (image_use, 1)).collect()
}

/// The servers whose starts are measured, and whether each finds a container that was started to look into its image.
const SERVERS: [(ServerKey, bool); 5] = [
    (postgres(15, DeploymentKind::Documented), true),
    (postgres(15, DeploymentKind::Cnpg), false),
    (postgres(17, DeploymentKind::Documented), true),
    (postgres(17, DeploymentKind::Cnpg), false),
    (ServerKey { service: Service::Redis, version: None, deployment: DeploymentKind::Documented }, true),
];

const fn postgres(version: u16, deployment: DeploymentKind) -> ServerKey {
    ServerKey { service: Service::Postgres, version: Some(version), deployment }
}

async fn run(site: &Site, environment: &str, every: usize) -> Result<Run, Error> {
    let versions = VERSIONS.map(|version| version.to_string()).join(",");
    let partition = format!("1/{every}");
    let options = ["--environment", environment, "--postgres", &versions, "--driver", DRIVERS, "--partition", &partition];
    let more: &[&str] = if environment == "container" { &["--image-set", SET] } else { &[] };
    throughput::run(site, SCENARIOS.iter().chain(&options).chain(more)).await
}

/// An environment and its servers, started once.
struct Begun {
    environment_ms: f64,
    /// Of each of [`SERVERS`].
    ready_ms: Vec<f64>,
}

async fn start(site: &Site, engine: &Engine, images: &FoundImages) -> Result<Begun, Error> {
    let mut directory = RunDir::create(&Space::default(), Some(&site.harness))?;
    let run = directory.name().ok_or("the run's directory has no name")?;
    directory.entrust(&run)?;
    let configurator = Arc::new(ManifestConfigurator::new(site.pki(directory.path())));
    let options = ContainerOptions {
        servers: ServersOptions::new(directory.path(), configurator),
        images: images.clone(),
        harness: site.harness.clone(),
        run,
        cache_directory: site.cache.clone(),
    };
    let begun = Instant::now();
    let environment = container::environment(engine, options).await?;
    let environment_ms = begun.elapsed().as_secs_f64() * 1e3;
    let mut ready_ms = Vec::new();
    for (key, _) in SERVERS {
        let begun = Instant::now();
        let started = environment.server(key).await;
        ready_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        if let Err(error) = started {
            environment.close().await;
            directory.close();
            return Err(error.into());
        }
    }
    let left = environment.close().await;
    directory.close();
    if left.is_empty() { Ok(Begun { environment_ms, ready_ms }) } else { Err(left.join("\n").into()) }
}

impl Containers {
    /// As tables, with the goals.
    pub(crate) fn text(&self) -> String {
        let start = |server: &str, how: &str, samples: &[f64]| {
            let (least, greatest) = range(samples).unzip();
            let numbers = [least, median(samples), greatest].map(|value| number(value, 0));
            [server.to_owned(), how.to_owned(), samples.len().to_string()].into_iter().chain(numbers).collect()
        };
        let mut rows: Vec<Vec<String>> = vec![start("(none)", "networks, a container of each image", &self.environment_ms)];
        for Start { server, warm, ready_ms } in &self.starts {
            rows.push(start(server, if *warm { "in a container that is there" } else { "with a container of its own" }, ready_ms));
        }
        let starts = Rows { head: vec!["server", "", "starts", "ready min ms", "median", "max"], rows, numbers_from: 2, omitted: 0 };
        let run = |who: &str, run: &Run| {
            let numbers = [number(Some(run.wall_seconds), 1), number(Some(run.cases_per_second()), 0)];
            [who.to_owned(), run.cases.to_string(), run.unsuccessful.to_string()].into_iter().chain(numbers).collect()
        };
        let rows = self.pairs.iter().flat_map(|pair| [run("here", &pair.local), run("in containers", &pair.container)]).collect();
        let runs = Rows { head: vec!["servers", "cases", "failed", "wall s", "cases/s"], rows, numbers_from: 1, omitted: 0 };
        let met = |met: bool| if met { "met" } else { "missed" };
        let slowest = self.starts.iter().flat_map(|start| start.ready_ms.iter().copied()).reduce(f64::max);
        let walls = |of: fn(&Pair) -> &Run| -> Vec<f64> { self.pairs.iter().map(|pair| of(pair).wall_seconds).collect() };
        let ratio = paired_ratio(&walls(|pair| &pair.container), &walls(|pair| &pair.local));
        let mut lines = vec![format!("Servers in containers, at the engine {}", self.engine), starts.render(WIDTH)];
        lines.extend(slowest.map(|slowest| {
            format!("goal, a server ready within {READY_GOAL_MS:.0} ms: {} (slowest {slowest:.0} ms)", met(slowest <= READY_GOAL_MS))
        }));
        lines.push(format!("Whole runs of {} ({DRIVERS}), start-up included, one in {} cases", SCENARIOS.join(" "), self.every));
        lines.push(runs.render(WIDTH));
        if self.pairs.iter().any(|pair| pair.local.cases != pair.container.cases) {
            lines.push("note: the two did not run the same cases, so that their ratio is off".to_owned());
        }
        lines.extend(ratio.map(|ratio| {
            if self.every == 1 {
                format!("goal, at most {RATIO_GOAL} times the time here: {} (median {ratio:.2})", met(ratio <= RATIO_GOAL))
            } else {
                format!("goal, at most {RATIO_GOAL} times the time here: it is for all cases, which --quick leaves out ({ratio:.2})")
            }
        }));
        lines.join("\n")
    }
}
