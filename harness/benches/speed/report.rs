//! What was measured: as tables, and as JSON with every sample.

use std::collections::BTreeMap;
use std::path::Path;

use environment::Environment as _;
use model::observation::Phases;
use model::report::Component;
use report::tables::Rows;
use serde::Serialize;

use crate::Error;
use crate::connections::{Beside, Client, Measured};
#[cfg(feature = "container")]
use crate::containers::Containers;
use crate::contender::Kind;
use crate::site::Site;
use crate::space::Space;
use crate::starts::{self, Starts};
use crate::statistics::{median, range};
use crate::table::{WIDTH, number};
use crate::throughput::Throughput;
use crate::timelines::Timelines;

/// The version of `bench.json`: raised when a reader of the old one could go wrong.
const SCHEMA_VERSION: u32 = 1;

/// The machine, so that nobody compares the numbers of two.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Processors that may be used.
    cpus: usize,
    /// The first processor's model.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// Operating system and architecture.
    platform: String,
    /// The load average of the last minute before the measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    load_before: Option<f64>,
}

/// Everything that was measured; a part that was not wanted is absent.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    schema_version: u32,
    started_at: String,
    wall_seconds: f64,
    command: Vec<String>,
    machine: Machine,
    components: Vec<Component>,
    /// Whole runs beside the bare loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) throughput: Option<Throughput>,
    /// One element for each server that is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) starts: Option<Vec<Starts>>,
    /// One element for each situation, with pgbench's connections beside ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<Vec<Measured>>,
    /// All timelines in one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timelines: Option<Timelines>,
    /// The room that a run takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) space: Option<Space>,
    /// Whole runs with servers in containers beside the same here, and how long such a server takes to start.
    #[cfg(feature = "container")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) containers: Option<Containers>,
    /// Why there are none.
    #[cfg(feature = "container")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) no_containers: Option<String>,
    #[serde(skip)]
    begun: std::time::Instant,
}

impl Report {
    /// A report with nothing measured yet.
    pub(crate) fn begin(site: &Site) -> Result<Self, Error> {
        Ok(Self {
            schema_version: SCHEMA_VERSION,
            started_at: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            wall_seconds: 0.0,
            command: std::env::args().skip(1).collect(),
            machine: Machine {
                cpus: std::thread::available_parallelism().map_or(1, usize::from),
                model: model(),
                platform: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
                load_before: load(),
            },
            components: site.stand("components")?.environment.components(),
            throughput: None,
            starts: None,
            connections: None,
            timelines: None,
            space: None,
            #[cfg(feature = "container")]
            containers: None,
            #[cfg(feature = "container")]
            no_containers: None,
            begun: std::time::Instant::now(),
        })
    }

    /// The measurement is over.
    pub(crate) fn end(&mut self) {
        self.wall_seconds = self.begun.elapsed().as_secs_f64();
    }

    /// What is said where the machine has other things to do.
    pub(crate) fn busy(&self) -> Option<String> {
        let load = self.machine.load_before?;
        let limit = self.machine.cpus as f64 / 4.0;
        (load > limit).then(|| {
            format!(
                "warning: the load average is {load} on {} processors: absolute times mean little, and ratios less; stop what else is running",
                self.machine.cpus
            )
        })
    }

    /// Writes it as JSON.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let failed = |error: std::io::Error| format!("could not write {}: {error}", path.display());
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        Ok(std::fs::write(path, text).map_err(failed)?)
    }

    /// As text for a person.
    pub(crate) fn tables(&self) -> String {
        let mut parts = vec![self.head()];
        parts.extend(self.throughput.as_ref().map(Throughput::text));
        parts.extend(self.starts.as_deref().map(starts));
        parts.extend(self.connections.iter().flatten().map(situation));
        parts.extend(self.connections.as_deref().and_then(explanation));
        parts.extend(self.timelines.as_ref().map(Timelines::text));
        parts.extend(self.space.as_ref().map(Space::text));
        #[cfg(feature = "container")]
        {
            parts.extend(self.containers.as_ref().map(Containers::text));
            parts.extend(self.no_containers.as_ref().map(|why_not| format!("Servers in containers: not measured: {why_not}")));
        }
        parts.extend(self.busy());
        parts.join("\n\n")
    }

    /// What was measured, and on what: the lines above the tables.
    fn head(&self) -> String {
        let Machine { cpus, model, platform, load_before } = &self.machine;
        let model = model.as_deref().unwrap_or("processor unknown");
        let load = load_before.map_or_else(|| "unknown".to_owned(), |load| format!("{load}"));
        let found = self.components.iter().filter_map(|component| {
            let version = component.version.as_ref()?;
            let library = component.tls_library.as_ref().map(|library| format!(" ({library})")).unwrap_or_default();
            Some(format!("{} {version}{library}", component.name))
        });
        let found = found.collect::<Vec<_>>().join(", ");
        format!("{cpus} processors ({model}), {platform}; load average before: {load}\n{found}")
    }
}

fn starts(starts: &[Starts]) -> String {
    let row = |starts: &Starts| {
        let (least, greatest) = range(&starts.answered_ms).unzip();
        vec![
            starts.server.clone(),
            starts.version.clone(),
            if starts.first { "first of its version" } else { "next" }.to_owned(),
            starts.answered_ms.len().to_string(),
            number(median(&starts.ready_ms), 0),
            number(least, 0),
            number(median(&starts.answered_ms), 0),
            number(greatest, 0),
        ]
    };
    let table = Rows {
        head: vec!["server", "version", "", "starts", "ready ms", "answer min", "answer median", "answer max"],
        rows: starts.iter().map(row).collect(),
        numbers_from: 3,
        omitted: 0,
    };
    let slow: Vec<&str> = starts
        .iter()
        .filter(|starts| median(&starts.answered_ms).is_some_and(|median| median > starts::GOAL_MS))
        .map(|starts| starts.server.as_str())
        .collect();
    let goal = match slow.as_slice() {
        [] => format!("goal, a first answer within {} ms: met", starts::GOAL_MS),
        slow => format!("goal, a first answer within {} ms: missed by {}", starts::GOAL_MS, slow.join(", ")),
    };
    format!("Server starts from cached data, to the first answer over mutual TLS\n{}\n{goal}", table.render(WIDTH))
}

fn situation(measured: &Measured) -> String {
    let row = |client: &Client| {
        let beside = measured.beside(client);
        let verdict = |beside: &Beside<'_>| match beside.goal {
            Err(why_not) => why_not.to_owned(),
            Ok(goal) => format!("{goal:.1}: {}", if beside.connect <= goal { "met" } else { "missed" }),
        };
        vec![
            client.name.clone(),
            number(client.connect_p50_ms(), 2),
            number(median(&client.connect_means_ms), 2),
            number(median(&client.whole_means_ms), 2),
            phases(client),
            beside.as_ref().map(|beside| beside.yardstick.name.clone()).unwrap_or_default(),
            number(beside.as_ref().map(|beside| beside.connect), 2),
            number(beside.as_ref().map(|beside| beside.whole), 2),
            beside.as_ref().map(verdict).unwrap_or_default(),
        ]
    };
    let table = Rows {
        head: vec!["client", "connect p50 ms", "connect mean ms", "whole call ms", PHASES, "beside", "connect", "whole", "goal"],
        rows: measured.clients.iter().map(row).collect(),
        numbers_from: 1,
        omitted: 0,
    };
    let Measured { situation, sslmode, sslnegotiation, server, .. } = measured;
    let count = measured.clients.iter().map(|client| client.phases.len()).max();
    format!(
        "Connections, {situation} (sslmode {sslmode}, sslnegotiation {sslnegotiation}) to {server}; {} of each client, one at a time\n{}",
        count.unwrap_or_default(),
        table.render(WIDTH)
    )
}

/// The head of [`phases`].
const PHASES: &str = "tcp/ask/tls/auth p50";

/// The medians of the phases in milliseconds: what the server needs is in all clients' alike.
fn phases(client: &Client) -> String {
    let phases: [fn(&Phases) -> Option<u64>; 4] =
        [|phases| phases.tcp_ns, |phases| phases.sslrequest_ns, |phases| phases.tls_ns, |phases| phases.auth_ns];
    phases.map(|phase| number(client.phase_p50_ms(phase), 2)).join("/")
}

/// What the numbers are, and who is behind the clients' names.
fn explanation(measured: &[Measured]) -> Option<String> {
    let clients = measured.iter().flat_map(|measured| &measured.clients).filter(|client| client.kind != Kind::Pgbench);
    let versions: BTreeMap<&str, &str> = clients.map(|client| (client.name.as_str(), client.version.as_str())).collect();
    let versions: Vec<String> = versions.into_iter().map(|(name, version)| format!("{name}: {version}")).collect();
    let text = "Means are medians over the rounds. Ratios are medians of the ratios within each round, of the rounds' medians, and beside \
                pgbench, which tells only those, of their means. pgbench's connection time holds the \
                closing too. The whole call is connecting, the same query, closing; our libpq driver's also the pipe to its child. `ask` is \
                SSLRequest with the server's fork, which direct negotiation has in its handshake.";
    (!measured.is_empty()).then(|| format!("{text}\n{}", versions.join("\n")))
}

/// The load average of the last minute (proc(5)).
fn load() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// The first processor's model (proc(5)).
fn model() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
