//! Single connections: our drivers beside `pgbench -C`, on one server, without relay and without anybody reading its log meanwhile.

use std::sync::Arc;

use environment::Environment as _;
use model::connect::{ClientFiles, PostgresRequest, SslMode, SslNegotiation};
use model::observation::Phases;
use model::server::{DeploymentKind, ServerConfig, ServerKey, Service};
use serde::Serialize;

use crate::args::Effort;
use crate::contender::{Contender, Kind, milliseconds};
use crate::site::Site;
use crate::statistics::{median, paired_ratio};
use crate::{Error, say};

/// libpq's part of pgbench's time, at most.
pub(crate) const LIBPQ_GOAL: f64 = 1.0;

/// The rustls driver's part of libpq's time, at most.
pub(crate) const RUSTLS_GOAL: f64 = 0.7;

/// What all clients are asked to do, one after the other.
struct Situation {
    name: &'static str,
    config: ServerConfig,
    sslmode: SslMode,
    negotiation: Option<SslNegotiation>,
    /// With the client's certificate and the root.
    files: bool,
}

/// What every client needed in one situation. All take turns in each round, and each round gives one number of each client.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// Its name in the tables, such as `mutual TLS`.
    pub(crate) situation: &'static str,
    /// As libpq spells it, such as `verify-full`.
    pub(crate) sslmode: &'static str,
    /// In libpq's words; `postgres`, libpq's default, where the situation names none.
    pub(crate) sslnegotiation: &'static str,
    /// Whether that is TLS.
    pub(crate) tls: bool,
    /// Its version and its TLS library, for people.
    pub(crate) server: String,
    /// All that can make such a connection, yardsticks among them.
    pub(crate) clients: Vec<Client>,
}

/// What one client needed.
#[derive(Debug, Serialize)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Its libpq, by our driver's name.
    pub(crate) libpq: Option<String>,
    /// Whether that is the distribution's.
    pub(crate) of_distribution: bool,
    /// The versions of its libraries, as its driver tells them.
    pub(crate) version: String,
    /// Median of connecting in each round; pgbench tells none.
    pub(crate) connect_p50s_ms: Vec<f64>,
    /// Mean of connecting in each round; pgbench's with closing.
    pub(crate) connect_means_ms: Vec<f64>,
    /// Mean of the whole call in each round.
    pub(crate) whole_means_ms: Vec<f64>,
    /// Every connection's phases; empty for pgbench.
    pub(crate) phases: Vec<Phases>,
}

/// One client beside another, in the same rounds.
#[derive(Debug)]
pub(crate) struct Beside<'a> {
    /// The client that it is held against.
    pub(crate) yardstick: &'a Client,
    /// Connecting against connecting: by medians where both tell each connection, else (pgbench) by means.
    pub(crate) connect: f64,
    /// Whole call against whole call.
    pub(crate) whole: f64,
    /// The most that is wanted, or why nothing is.
    pub(crate) goal: Result<f64, &'static str>,
}

impl Client {
    /// The median of connecting; pgbench doesn't tell single connections.
    pub(crate) fn connect_p50_ms(&self) -> Option<f64> {
        self.phase_p50_ms(|phases| phases.connect_ns)
    }

    /// The median of one phase.
    pub(crate) fn phase_p50_ms(&self, phase: fn(&Phases) -> Option<u64>) -> Option<f64> {
        let samples: Vec<f64> = self.phases.iter().filter_map(phase).map(milliseconds).collect();
        median(&samples)
    }
}

impl Measured {
    /// A client beside its yardstick; `None` where that is not there.
    pub(crate) fn beside(&self, client: &Client) -> Option<Beside<'_>> {
        let find = |wanted: &dyn Fn(&Client) -> bool| self.clients.iter().find(|other| wanted(other));
        let (yardstick, goal) = match client.kind {
            Kind::Rustls => {
                let libpq = |other: &Client| other.kind == Kind::Libpq;
                let found = find(&|other| libpq(other) && other.of_distribution).or_else(|| find(&libpq));
                // What rustls can save is in the handshake.
                (found?, if self.tls { Ok(RUSTLS_GOAL) } else { Err("no TLS") })
            }
            Kind::Libpq => {
                let pgbench = |other: &Client| other.kind == Kind::Pgbench;
                match find(&|other| pgbench(other) && other.libpq == client.libpq) {
                    Some(same) => (same, Ok(LIBPQ_GOAL)),
                    None => (find(&|other| pgbench(other) && other.of_distribution).or_else(|| find(&pgbench))?, Err("another library")),
                }
            }
            Kind::Pgbench => return None,
        };
        let by_medians = paired_ratio(&client.connect_p50s_ms, &yardstick.connect_p50s_ms);
        Some(Beside {
            yardstick,
            connect: by_medians.or_else(|| paired_ratio(&client.connect_means_ms, &yardstick.connect_means_ms))?,
            whole: paired_ratio(&client.whole_means_ms, &yardstick.whole_means_ms)?,
            goal,
        })
    }
}

/// Measures every situation that the newest server supports.
pub(crate) fn measure(site: &Site, effort: &Effort) -> Result<Vec<Measured>, Error> {
    // Servers have a runtime of their own, which stands still while connections are measured: so nobody follows the server's log then.
    let servers = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let clients = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let build = site.toolchain.postgres.iter().max_by_key(|build| (build.major >= FIRST_WITH_DIRECT, std::cmp::Reverse(build.major)));
    let build = build.ok_or("no PostgreSQL is installed; `make setup` brings some")?;
    let key = ServerKey { service: Service::Postgres, version: Some(build.major), deployment: DeploymentKind::Documented };
    let stand = site.stand("connections")?;
    let server = servers.block_on(stand.environment.server(key))?;
    let contenders = Arc::new(clients.block_on(Contender::all(site))?);
    let mut measured = Vec::new();
    for situation in situations(build.major) {
        say(&format!("connections: {}", situation.name));
        servers.block_on(server.apply(&situation.config))?;
        let mut request = site.postgres_request(&stand, server.address())?;
        (request.sslmode, request.sslnegotiation) = (Some(situation.sslmode), situation.negotiation);
        if !situation.files {
            request.files = ClientFiles::default();
        }
        let tls = situation.sslmode != SslMode::Disable;
        let rounds = rounds(Arc::clone(&contenders), request, tls, effort.clone());
        let results = clients.block_on(async { tokio::spawn(rounds).await })??;
        measured.push(Measured {
            situation: situation.name,
            sslmode: situation.sslmode.name(),
            tls,
            sslnegotiation: situation.negotiation.map_or("postgres", SslNegotiation::name),
            server: format!("PostgreSQL {}, {}", build.version, build.openssl.as_deref().unwrap_or("TLS library unknown")),
            clients: results,
        });
    }
    clients.block_on(async {
        for contender in contenders.iter() {
            contender.close().await;
        }
    });
    servers.block_on(stand.close());
    Ok(measured)
}

/// The first major version with direct negotiation.
const FIRST_WITH_DIRECT: u16 = 17;

fn situations(major: u16) -> Vec<Situation> {
    // Neither certificate nor password: what is left is the transport.
    let trusting = ServerConfig { pg_hba: Some(vec!["host all all 127.0.0.1/32 trust".to_owned()]), ..ServerConfig::default() };
    let situation =
        |name, sslmode, config: &ServerConfig, files| Situation { name, sslmode, negotiation: None, config: config.clone(), files };
    let documented = ServerConfig::default();
    let mut situations = vec![
        situation("plaintext", SslMode::Disable, &trusting, false),
        situation("TLS", SslMode::Require, &trusting, false),
        situation("mutual TLS", SslMode::VerifyFull, &documented, true),
    ];
    if major >= FIRST_WITH_DIRECT {
        let direct = situation("mutual TLS, direct", SslMode::VerifyFull, &documented, true);
        situations.push(Situation { negotiation: Some(SslNegotiation::Direct), ..direct });
    }
    situations
}

/// All rounds of one situation: in each, every client has its turn, another one first every time.
async fn rounds(contenders: Arc<Vec<Contender>>, request: PostgresRequest, tls: bool, effort: Effort) -> Result<Vec<Client>, Error> {
    let able: Vec<&Contender> = contenders.iter().filter(|contender| contender.can(&request)).collect();
    let mut clients: Vec<Client> = able.iter().map(|contender| client(contender)).collect();
    for contender in &able {
        // Not counted: it loads what is loaded once.
        contender.round(&request, tls, 2).await?;
    }
    for round in 0..effort.rounds {
        for turn in 0..able.len() {
            let index = (round + turn) % able.len();
            let done = able[index].round(&request, tls, effort.connections).await?;
            clients[index].connect_p50s_ms.extend(done.connect_p50_ms);
            clients[index].connect_means_ms.push(done.connect_ms);
            clients[index].whole_means_ms.push(done.whole_ms);
            clients[index].phases.extend(done.phases);
        }
    }
    Ok(clients)
}

fn client(contender: &Contender) -> Client {
    Client {
        name: contender.name.clone(),
        kind: contender.kind.clone(),
        libpq: contender.libpq.clone(),
        of_distribution: contender.of_distribution,
        version: contender.version.clone(),
        connect_p50s_ms: Vec::new(),
        connect_means_ms: Vec::new(),
        whole_means_ms: Vec::new(),
        phases: Vec::new(),
    }
}
