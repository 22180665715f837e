//! One connection of a case, every text resolved to its type.

use std::collections::BTreeMap;

use serde::Serialize;

use super::connect::{RedisTls, SslMode, SslNegotiation, TlsVersion};
use super::network::{Networks, NoNetwork, Source};

/// The identity of a client that a scenario says nothing of.
pub const DEFAULT_IDENTITY: &str = "app";
/// The trust (root file) of a client that a scenario says nothing of.
pub const DEFAULT_TRUST: &str = "mtls-ca";

/// Which password a client offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PasswordChoice {
    /// The password that the deployment gave the user.
    Right,
    /// A password that the server does not accept for this user.
    Wrong,
    /// The client has no password to send.
    None,
}

/// One connection as a scenario asks for it: names instead of files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ConnectPlan {
    /// The name of the driver that makes the connection, such as `libpq-17`; one of the catalogue, installed or not.
    pub driver: String,
    /// PostgreSQL's `sslmode`; `None` leaves the option to the client's default.
    pub sslmode: Option<SslMode>,
    /// PostgreSQL's `sslnegotiation`; `None` leaves the option to the client's default.
    pub sslnegotiation: Option<SslNegotiation>,
    /// Whether a Redis client uses TLS, and what it verifies; `None` where the scenario does not say: verify-full, or what the
    /// application's configuration file decides. Without meaning for PostgreSQL.
    pub tls: Option<RedisTls>,
    /// The client's identity; `None`: no certificate and no key are named.
    pub identity: Option<String>,
    /// The client's trust; `None`: no root is named.
    pub trust: Option<String>,
    /// The host name asked for; `None`: the server certificate's common name.
    pub host: Option<String>,
    /// The user; `None`: the deployment's.
    pub user: Option<String>,
    /// The database; `None`: the deployment's.
    pub database: Option<String>,
    /// Which password the client offers to the server.
    pub password: PasswordChoice,
    /// Where the server sees it come from.
    pub source: Option<Source>,
    /// Over the unix socket.
    pub unix: bool,
    /// The lowest TLS version that the client offers; `None` leaves the option to its default.
    pub min_tls: Option<TlsVersion>,
    /// The highest TLS version that the client offers; `None` leaves the option to its default.
    pub max_tls: Option<TlsVersion>,
    /// ALPN protocols in place of `postgresql`; an empty list offers none; `None` leaves the client's own. Only the driver `rustls` can.
    pub alpn: Option<Vec<String>>,
    /// A session of streaming replication.
    pub replication: bool,
    /// Whether a Redis client goes to the port for connections without TLS, where the server has one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plaintext_port: bool,
    /// Whether the connection goes through the TLS-passthrough gateway instead of straight to the server.
    pub gateway: bool,
    /// Environment variables of `nautobot_config.py` (credential places not yet replaced by paths; networks are, after [`Case::at`]).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

impl ConnectPlan {
    /// A connection of this driver that asks for nothing: no certificate, no password, every option at its default.
    #[must_use]
    pub fn bare(driver: impl Into<String>) -> Self {
        Self {
            driver: driver.into(),
            sslmode: None,
            sslnegotiation: None,
            tls: None,
            identity: None,
            trust: None,
            host: None,
            user: None,
            database: None,
            password: PasswordChoice::None,
            source: None,
            unix: false,
            min_tls: None,
            max_tls: None,
            alpn: None,
            replication: false,
            plaintext_port: false,
            gateway: false,
            env: BTreeMap::new(),
        }
    }

    pub(super) fn at(&self, networks: &Networks) -> Result<Self, NoNetwork> {
        self.source.map(|source| networks.address(source)).transpose()?;
        let env = self.env.iter().map(|(name, text)| Ok((name.clone(), networks.fill(text)?)));
        Ok(Self { env: env.collect::<Result<_, _>>()?, ..self.clone() })
    }
}
