//! The driver `rustls`: tokio-postgres over rustls, with libpq's meaning of every sslmode and of both negotiations.
//!
//! tokio-postgres knows three modes and tokio-postgres-rustls hides the TLS session; so negotiation and handshake are done here, on our own
//! socket, and tokio-postgres takes over from the startup packet on. Where rustls itself behaves unlike OpenSSL (it wants subjectAltNames,
//! and it refuses a wrong host name by an alert inside the handshake), that is left as it is: it is what a Rust client does.

mod attempt;
mod classify;
mod negotiation;
mod session;
mod startup;
#[cfg(test)]
mod tests;

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use self::attempt::{Attempt, Established, Failed};
use self::negotiation::{Encryption, Plan};
use super::tls::{Ended, KxGroups, TlsKit, Trace, Unsupported, locked, versions};
use super::{Driver, DriverError, Opened, UnableError};
use model::connect::{ConnectRequest, PostgresRequest};
use model::driver::{DriverInfo, Family};
use model::observation::{ClientObservation, Refused};
use model::refusal::{OptionRefusal, Refusal, Stage};
use model::server::Service;

pub use self::classify::classify_fatal;

/// The name in scenarios.
pub const NAME: &str = "rustls";

/// Choices that no scenario makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RustlsOptions {
    /// Key exchange groups: the provider's own for testing behaviour, P-256 first for measuring latency.
    pub kx_groups: KxGroups,
}

/// The driver. Cheap: it holds no connection and starts nothing.
#[derive(Debug)]
pub struct RustlsDriver {
    info: DriverInfo,
    kit: TlsKit,
}

impl RustlsDriver {
    /// A driver named `rustls`.
    #[must_use]
    pub fn new(options: RustlsOptions) -> Self {
        let tls_library = format!("{} with {}", locked("rustls"), locked("aws-lc-rs"));
        Self {
            info: DriverInfo {
                name: NAME.to_owned(),
                service: Service::Postgres,
                family: Family::Rustls,
                libpq: None,
                version: format!("{}, {tls_library}", locked("tokio-postgres")),
                tls_library: Some(tls_library),
            },
            kit: TlsKit::new(options.kx_groups),
        }
    }

    async fn run(&self, request: &PostgresRequest, trace: &mut Trace) -> Result<Established, Ended> {
        let plan = Plan::of(request)?;
        let versions = versions(request.min_tls, request.max_tls).map_err(|unsupported| self.unsupported(unsupported))?;
        let plaintext_allowed = plan.second == Some(Encryption::Plain);
        let attempt = Attempt { driver: NAME, kit: &self.kit, request, versions, plaintext_allowed };
        let first = match attempt.run(plan.first, trace).await {
            Ok(established) => return Ok(established),
            Err(Failed::Final(ended)) => return Err(ended),
            Err(Failed::Retryable(refused)) => refused,
        };
        let Some(second) = plan.second else { return Err(first.into()) };
        match attempt.run(second, trace).await {
            Ok(established) => Ok(established),
            Err(Failed::Final(Ended::Driver(error))) => Err(error.into()),
            Err(Failed::Final(Ended::Refused(refused)) | Failed::Retryable(refused)) => Err(after(&first, refused).into()),
        }
    }

    fn unsupported(&self, unsupported: Unsupported) -> Ended {
        match unsupported {
            Unsupported::Version(version) => DriverError::unable(NAME, UnableError::TlsVersion(version)).into(),
            Unsupported::Range(..) => Refused {
                refusal: Refusal::Option(OptionRefusal::InvalidValue),
                stage: Some(Stage::Options),
                sqlstate: None,
                text: unsupported.to_string(),
            }
            .into(),
        }
    }
}

/// The second attempt's refusal, which is the call's, with both texts: libpq prints both too.
fn after(first: &Refused, second: Refused) -> Refused {
    Refused { text: format!("{}\nand after reconnecting: {}", first.text, second.text), ..second }
}

#[async_trait]
impl Driver for RustlsDriver {
    fn info(&self) -> &DriverInfo {
        &self.info
    }

    async fn connect(&self, request: &ConnectRequest, limit: Duration) -> Result<ClientObservation, DriverError> {
        let deadline = Instant::now() + limit;
        Ok(self.open(request, limit).await?.closed(deadline).await)
    }

    async fn open(&self, request: &ConnectRequest, limit: Duration) -> Result<Opened, DriverError> {
        let ConnectRequest::Postgres(request) = request else {
            return Err(DriverError::unable(NAME, UnableError::PostgresOnly));
        };
        if request.replication {
            return Err(DriverError::unable(NAME, UnableError::Replication));
        }
        if !request.env.is_empty() {
            return Err(DriverError::unable(NAME, UnableError::NoConfigurationFile));
        }
        let mut trace = Trace::start();
        let result = timeout(limit, self.run(request, &mut trace)).await.ok();
        trace.opened(result.map(|result| result.map(|Established { session, opened }| (session, opened))), limit)
    }
}
