//! The bare loop: the connections of a run and nothing else.
//!
//! The same cases in the same order on the same servers, with the same drivers and as many at a time, each connection straight to the
//! server: no relay, nothing waited for in the server's log, nothing judged, recorded or reported. It runs in a process of its own, as the
//! run does. What it shares with a run is what it can't do without: servers, their configurations, drivers and credentials. The local
//! environment goes on reading the servers' logs; `perf` puts that below a hundredth of the processor time.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use driver::DriverError;
use environment::{Environment as _, Server};
use expand::Selection;
use model::case::{Action, Case, ConnectPlan};
use model::endpoint::Address;
use model::network::Source;
use model::observation::ClientOutcome;
use model::server::{ServerConfig, ServerKey, Service};
use serde::{Deserialize, Serialize};
use session::{self, Session};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::Error;
use crate::args::Size;
use crate::site::Site;

/// What the bare loop did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Cases whose connections were made.
    pub(crate) cases: u64,
    /// Connections that were made, those of positive controls among them.
    pub(crate) connections: u64,
    /// Peak resident memory of the process in bytes.
    pub(crate) peak_memory_bytes: u64,
}

/// What all tasks share.
struct Loop {
    session: Session,
    slots: Arc<Semaphore>,
    starts: Semaphore,
    cases: AtomicU64,
    connections: AtomicU64,
}

/// Cases by server and configuration.
type Groups = BTreeMap<ServerKey, BTreeMap<Arc<ServerConfig>, Vec<Arc<Case>>>>;

/// The cases that both a run and the bare loop can make: every step connects straight to the server, by the options of a connection alone, and
/// from an address that needs no relay. Gives their scenarios' ids.
pub(crate) fn comparable(cases: &[Case]) -> Vec<String> {
    let without_relay = |plan: &ConnectPlan| (plan.source.is_none() || over_ipv6(plan)) && !plan.gateway && plan.env.is_empty();
    let comparable = |case: &Case| {
        case.timeline.is_none()
            && case.steps.iter().all(|step| match &step.action {
                Action::Connect(plan) => without_relay(plan) && step.control.as_ref().is_none_or(without_relay),
                Action::Openssl(_) => false,
            })
    };
    let others: HashSet<&str> = cases.iter().filter(|case| !comparable(case)).map(|case| case.scenario.as_str()).collect();
    let scenarios: BTreeSet<&str> = cases.iter().map(|case| case.scenario.as_str()).filter(|scenario| !others.contains(scenario)).collect();
    scenarios.into_iter().map(str::to_owned).collect()
}

/// An address that the client has without a relay, too.
fn over_ipv6(plan: &ConnectPlan) -> bool {
    matches!(plan.source, Some(Source::Address(address)) if address.is_ipv6())
}

/// The process's whole life. `output` gets a [`Done`] as JSON.
pub(crate) fn main(size: Size, output: &Path) -> Result<(), Error> {
    let site = Site::find()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(run(&site, size))?;
    std::fs::write(output, serde_json::to_vec(&done)?)?;
    Ok(())
}

async fn run(site: &Site, size: Size) -> Result<Done, Error> {
    let planned = site.plan()?;
    let selection = Selection { ids: comparable(&planned), partition: Some((0, size.every)), ..Selection::default() };
    let cases: Vec<Arc<Case>> = selection.apply(planned)?.into_iter().map(Arc::new).collect();
    let cases: Vec<Arc<Case>> = std::iter::repeat_n(cases, size.repeat).flatten().filter(|case| case.skip.is_none()).collect();
    let all = Arc::new(Loop {
        session: Session::start(site.session_options(), &cases).await?,
        slots: Arc::new(Semaphore::new(session::default_jobs())),
        starts: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
        cases: AtomicU64::new(0),
        connections: AtomicU64::new(0),
    });
    let mut groups = Groups::new();
    let networks = all.session.environment().networks();
    for case in cases {
        let case = Arc::new(case.at(&networks)?);
        groups.entry(case.key).or_default().entry(Arc::clone(&case.config)).or_default().push(case);
    }
    let mut tasks = JoinSet::new();
    for (key, configurations) in groups {
        tasks.spawn(Arc::clone(&all).serve(key, configurations));
    }
    while let Some(joined) = tasks.join_next().await {
        joined??;
    }
    let (cases, connections) = (all.cases.load(Ordering::Relaxed), all.connections.load(Ordering::Relaxed));
    let all = Arc::into_inner(all).ok_or("a task of the bare loop still runs")?;
    all.session.close().await;
    Ok(Done { cases, connections, peak_memory_bytes: peak_memory_bytes()? })
}

impl Loop {
    /// One server: its configurations one after the other.
    async fn serve(self: Arc<Self>, key: ServerKey, configurations: BTreeMap<Arc<ServerConfig>, Vec<Arc<Case>>>) -> Result<(), Error> {
        if self.session.environment().unable(key).is_some() {
            return Ok(());
        }
        let server = {
            let _permit = self.starts.acquire().await?;
            self.session.environment().server(key).await?
        };
        for (config, mut cases) in configurations {
            server.apply(&config).await?;
            // The run's order.
            cases.sort_by_cached_key(|case| {
                let mut hasher = DefaultHasher::new();
                case.id.hash(&mut hasher);
                hasher.finish()
            });
            let controls = Arc::new(Mutex::new(HashSet::new()));
            let mut running = JoinSet::new();
            for case in cases {
                let permit = Arc::clone(&self.slots).acquire_owned().await?;
                let (all, server, controls) = (Arc::clone(&self), Arc::clone(&server), Arc::clone(&controls));
                running.spawn(async move {
                    let result = all.case(&case, server.as_ref(), &controls).await;
                    drop(permit);
                    result
                });
                while let Some(joined) = running.try_join_next() {
                    joined??;
                }
            }
            while let Some(joined) = running.join_next().await {
                joined??;
            }
        }
        Ok(())
    }

    /// One case's connections: each step's, and after a refusal its control's, once a configuration.
    async fn case(&self, case: &Case, server: &dyn Server, controls: &Mutex<HashSet<ConnectPlan>>) -> Result<(), Error> {
        for step in &case.steps {
            let Action::Connect(plan) = &step.action else { continue };
            // What a driver or the machine can't do, a run skips as well.
            let Some(outcome) = self.connect(plan, case.key.service, server).await? else { return Ok(()) };
            if let (ClientOutcome::Refused(_), Some(control)) = (&outcome, &step.control) {
                let new = controls.lock().unwrap_or_else(PoisonError::into_inner).insert(control.clone());
                if new {
                    self.connect(control, case.key.service, server).await?;
                }
            }
        }
        self.cases.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// One connection; `None` where it can't be made here.
    async fn connect(&self, plan: &ConnectPlan, service: Service, server: &dyn Server) -> Result<Option<ClientOutcome>, Error> {
        let run_context = self.session.run_context();
        let Some(driver) = run_context.drivers.get(&plan.driver) else { return Ok(None) };
        let mut request = run_context.request(plan, service, server)?;
        let address = if plan.unix {
            server.unix_socket()?
        } else if over_ipv6(plan) {
            server.address_v6().map(Address::Tcp)
        } else {
            Some(Address::Tcp(server.address()))
        };
        let Some(address) = address else { return Ok(None) };
        request.endpoint_mut().address = address;
        match driver.connect(&request, run_context.limits.connect).await {
            Ok(observation) => {
                self.connections.fetch_add(1, Ordering::Relaxed);
                Ok(Some(observation.outcome))
            }
            Err(DriverError::Unable { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// As a run tells its own: see getrusage(2).
fn peak_memory_bytes() -> Result<u64, Error> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    Ok(u64::try_from(usage.max_rss())? * 1024)
}
