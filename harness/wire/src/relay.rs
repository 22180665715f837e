//! The relay of one case: its listener, its connections and their trace.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::fault::Fault;
use super::link::{self, lock};
use super::watch::Watch;
use model::server::Service;
use model::wire::WireTrace;
use os::accept::ACCEPT_PAUSE;
use os::dial::{self, Dialer};

/// What a relay stands between.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Makes the connections to the server.
    pub dialer: Arc<dyn Dialer>,
    /// Where the server listens, as the dialer sees it.
    pub upstream: SocketAddr,
    /// The address that the server sees; of the same family as `upstream`. On Linux every address in 127.0.0.0/8 will do. `None`
    /// leaves the choice to the dialer.
    pub source: Option<IpAddr>,
    /// Where the client connects: 127.0.0.1 or ::1. The port is chosen by the system.
    pub listen: IpAddr,
    /// What the server speaks.
    pub service: Service,
    /// Done to every connection.
    pub faults: Vec<Fault>,
}

/// A relay could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Anybody could connect to a relay that listens elsewhere.
    #[error("a relay listens on loopback only, not on {0}: give 127.0.0.1 or ::1")]
    NotLoopback(IpAddr),
    /// No connection can be made between the two.
    #[error("a relay can't reach {upstream} from {source_address}: give a source address of the same family")]
    Family {
        /// Where the server listens.
        upstream: SocketAddr,
        /// The address it should see.
        source_address: IpAddr,
    },
    /// The address is not of this machine.
    #[error("could not bind the relay's side towards the server to {address}: {source}; is it an address of this machine?")]
    Source {
        /// The address that the server should see.
        address: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// No port can be had for the client, or none of that address.
    #[error("could not listen for a relay's client on {address}: {source}; does this machine have that address, and ports left?")]
    Listen {
        /// Where clients were to connect.
        address: IpAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A relay that listens. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    record: Arc<Record>,
    /// Dropped to stop accepting.
    open: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// The relay itself failed: its trace may lack something.
#[derive(Debug, thiserror::Error)]
enum RelayFailure {
    #[error("accept a client's connection: {0}")]
    Accept(#[source] io::Error),
    #[error("connect to the server at {upstream}: {source}")]
    Connect { upstream: SocketAddr, source: io::Error },
    #[error("a connection's task panicked")]
    ConnectionPanicked,
    #[error("the relay panicked")]
    Panicked,
}

/// What the relay has seen.
#[derive(Debug, Default)]
struct Record {
    connections: Mutex<Vec<Arc<Mutex<Watch>>>>,
    /// The first one: what follows it is often its consequence.
    failure: Mutex<Option<RelayFailure>>,
}

impl Relay {
    /// Starts to listen.
    ///
    /// # Errors
    /// [`RelayError`]: addresses that can't be used, or no socket left.
    pub async fn open(options: RelayOptions) -> Result<Self, RelayError> {
        let listen = options.listen;
        if !listen.is_loopback() {
            return Err(RelayError::NotLoopback(listen));
        }
        if let Some(address) = options.source {
            if address.is_ipv4() != options.upstream.is_ipv4() {
                return Err(RelayError::Family { upstream: options.upstream, source_address: address });
            }
            // Found here it is one clear error; later it would be a reset connection.
            options.dialer.check(options.upstream, address).map_err(|source| RelayError::Source { address, source })?;
        }
        let listener = TcpListener::bind((listen, 0)).await.map_err(|source| RelayError::Listen { address: listen, source })?;
        let address = listener.local_addr().map_err(|source| RelayError::Listen { address: listen, source })?;
        let record = Arc::new(Record::default());
        let (open, closed) = oneshot::channel();
        let task = tokio::spawn(serve(listener, Arc::new(options), Arc::clone(&record), closed));
        Ok(Self { address, record, open: Some(open), task })
    }

    /// Where the client connects.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The addresses that the server has seen so far, in order of the clients' arrival: PostgreSQL's jsonlog has them as
    /// `remote_host` and `remote_port`.
    #[must_use]
    pub fn upstreams(&self) -> Vec<SocketAddr> {
        lock(&self.record.connections).iter().filter_map(|watch| lock(watch).trace().upstream).collect()
    }

    /// Takes no more connections, waits until those made have ended on both sides, at most for `limit`, and gives the trace.
    /// Connections that are still open then are closed; their `closed_first` is absent.
    pub async fn finish(mut self, limit: Duration) -> WireTrace {
        self.open = None;
        let ended = match timeout(limit, &mut self.task).await {
            Ok(ended) => ended,
            Err(_) => {
                self.task.abort();
                (&mut self.task).await
            }
        };
        if ended.is_err_and(|error| error.is_panic()) {
            self.record.fail(RelayFailure::Panicked);
        }
        self.record.trace()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Record {
    /// Begins the trace of a connection that has been accepted.
    fn arrived(&self, service: Service) -> Arc<Mutex<Watch>> {
        let watch = Arc::new(Mutex::new(Watch::new(service)));
        lock(&self.connections).push(Arc::clone(&watch));
        watch
    }

    fn fail(&self, failure: RelayFailure) {
        lock(&self.failure).get_or_insert(failure);
    }

    fn trace(&self) -> WireTrace {
        WireTrace {
            connections: lock(&self.connections).iter().map(|watch| lock(watch).trace().clone()).collect(),
            error: lock(&self.failure).as_ref().map(ToString::to_string),
        }
    }
}

/// Accepts connections until `closed`, then waits for those made. Dropping this future closes everything.
async fn serve(listener: TcpListener, options: Arc<RelayOptions>, record: Arc<Record>, mut closed: oneshot::Receiver<()>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = &mut closed => break,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => start(client, &mut links, &options, &record),
                Err(error) => {
                    record.fail(RelayFailure::Accept(error));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = links.join_next(), if !links.is_empty() => note(&ended, &record),
        }
    }
    // A client that connected and went away at once may still wait here.
    if let Ok(listener) = listener.into_std() {
        while let Ok((client, _)) = listener.accept() {
            if let Ok(client) = client.set_nonblocking(true).and_then(|()| TcpStream::from_std(client)) {
                start(client, &mut links, &options, &record);
            }
        }
    }
    while let Some(ended) = links.join_next().await {
        note(&ended, &record);
    }
}

/// Begins to carry one connection.
fn start(client: TcpStream, links: &mut JoinSet<()>, options: &Arc<RelayOptions>, record: &Arc<Record>) {
    let watch = record.arrived(options.service);
    let (options, record) = (Arc::clone(options), Arc::clone(record));
    links.spawn(async move {
        if let Err(source) = link::run(client, options.dialer.as_ref(), options.upstream, options.source, &options.faults, &watch).await
            && dial::is_own_failure(&source)
        {
            record.fail(RelayFailure::Connect { upstream: options.upstream, source });
        }
    });
}

/// A connection's task has ended.
fn note(ended: &Result<(), tokio::task::JoinError>, record: &Record) {
    if ended.as_ref().is_err_and(tokio::task::JoinError::is_panic) {
        record.fail(RelayFailure::ConnectionPanicked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_of_the_relay_itself_is_the_traces_error() {
        let record = Record::default();
        assert_eq!(record.trace().error, None);
        note(&Ok(()), &record);
        assert_eq!(record.trace().error, None, "a connection that ended is no failure");
        let cancelled = tokio::spawn(std::future::pending::<()>());
        cancelled.abort();
        note(&cancelled.await, &record);
        assert_eq!(record.trace().error, None, "nor is one that was ended");
        note(&tokio::spawn(async { panic!("on purpose") }).await, &record);
        assert_eq!(record.trace().error.as_deref(), Some("a connection's task panicked"));
        record.fail(RelayFailure::Accept(io::Error::other("later")));
        assert_eq!(record.trace().error.as_deref(), Some("a connection's task panicked"));
    }
}
