//! A scenario file: which claims, which deployment, a matrix, steps, expectations.
//!
//! Strings marked [`Text`] may hold `${axis}`; they are replaced by the case's value before they get their type.

use std::collections::BTreeMap;
use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::Spanned;

use super::connect::TlsVersion;
use super::credential::Credentials;
use super::refusal::{Refusal, Stage};
use super::server::Service;
use super::text::{OneOrMany, Scalar, Text, Texts};
use super::timeline::Timeline;
use super::when::When;
use super::wire::WireEvent;

/// The values of an axis: a list, or names with the text that `${axis}` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Axis {
    /// Values that stand for themselves. On the axis `driver`, globs over the known drivers.
    Values(Vec<Scalar>),
    /// Short names for longer texts, in the file's order.
    Named(IndexMap<String, Scalar>),
}

impl<'de> Deserialize<'de> for Axis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AxisVisitor;
        impl<'de> Visitor<'de> for AxisVisitor {
            type Value = Axis;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values, or a map of names to texts")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Axis, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(Axis::Values)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Axis, A::Error> {
                IndexMap::deserialize(MapAccessDeserializer::new(map)).map(Axis::Named)
            }
        }
        deserializer.deserialize_any(AxisVisitor)
    }
}

/// A scenario file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `<subject>/<behaviour>`: the file's path below `scenarios/` without `.yaml`.
    pub id: Text,
    /// One line.
    pub title: String,
    /// What a reader should know: why, and where the rule comes from.
    #[serde(default)]
    pub description: Option<String>,
    /// Claims that every expectation bears on, unless it names its own.
    #[serde(default)]
    pub claims: Vec<Text>,
    /// The kind of server; absent: PostgreSQL.
    #[serde(default = "postgres")]
    pub service: Service,
    /// `documented`, `cnpg`, or both.
    pub deployment: OneOrMany,
    /// The only environment that it means something in; its cases are skipped in the others. Absent: all.
    #[serde(default)]
    pub needs: Option<EnvironmentNeed>,
    /// PostgreSQL major versions; absent: every version the harness knows. Not for Redis scenarios.
    #[serde(default)]
    pub postgres: Option<Vec<u16>>,
    /// Axis name to values; the cases are their product, first axis slowest, with `deployment` and `postgres` before them.
    #[serde(default)]
    pub matrix: IndexMap<String, Axis>,
    /// Cells that are left out.
    #[serde(default)]
    pub exclude: Vec<When>,
    /// What differs from the deployment's own configuration.
    #[serde(default)]
    pub server: ServerPatch,
    /// Credentials of this scenario only, beside those of `credentials.yaml`.
    #[serde(default)]
    pub credentials: Credentials,
    /// The positive control of every refused case: the first row whose `when` holds; its `connect` fields replace the step's.
    #[serde(default)]
    pub control: Vec<Control>,
    /// What is done, in order, where nothing changes meanwhile.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// In place of `steps`: the deployment changes while clients run.
    #[serde(default)]
    pub timeline: Option<Timeline>,
}

/// What a scenario can need of its environment, by the environment's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EnvironmentNeed {
    /// Servers are processes of this machine.
    Local,
    /// Each server has a container of its own, with files where CloudNativePG has them.
    Container,
}

impl EnvironmentNeed {
    /// The environment's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Container => "container",
        }
    }
}

fn postgres() -> Service {
    Service::Postgres
}

/// See [`super::server::ServerConfig`].
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPatch {
    /// The user's pg_hba lines, in place of the Cluster's. A text with several lines is several lines. `${range:NETWORK}` and
    /// `${address:NETWORK}` stand for the range of a network, in CIDR notation, and for the address that a client in it has; networks are
    /// `pods`, `sites`, `elsewhere` and `gateway`, whose address is the gateway's own.
    #[serde(default)]
    pub pg_hba: Option<Vec<Text>>,
    /// Settings of postgresql.conf or redis.conf by name.
    #[serde(default)]
    pub settings: BTreeMap<String, Text>,
    /// The identity that the server presents.
    #[serde(default)]
    pub certificate: Option<Text>,
    /// The trust in `ssl_ca_file`; `none` empties it.
    #[serde(default)]
    pub client_ca: Option<Text>,
    /// The revocation list in `ssl_crl_file`.
    #[serde(default)]
    pub crl: Option<Text>,
}

/// A positive control.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Which cases it is for.
    #[serde(default)]
    pub when: When,
    /// Fields of the connection that differ from the refused one.
    pub connect: Connect,
}

/// One step: exactly one of the actions, and what is expected of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Connect to the server.
    #[serde(default)]
    pub connect: Option<Connect>,
    /// Run `openssl`.
    #[serde(default)]
    pub openssl: Option<Openssl>,
    /// The first row whose `when` holds is the expectation.
    #[schemars(with = "Vec<Expect>")]
    pub expect: Vec<Spanned<Expect>>,
}

/// A connection. Fields left out: the deployment's own client (identity `app`, trust `mtls-ca`, the Cluster's owner and database).
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// The driver.
    #[serde(default)]
    pub driver: Option<Text>,
    /// PostgreSQL: an sslmode or `unset`.
    #[serde(default)]
    pub sslmode: Option<Text>,
    /// PostgreSQL: `postgres`, `direct` or `unset`.
    #[serde(default)]
    pub sslnegotiation: Option<Text>,
    /// Redis: `off`, `no-verify`, `verify-ca` or `verify-full` (the default).
    #[serde(default)]
    pub tls: Option<Text>,
    /// An identity by name, or `none`.
    #[serde(default)]
    pub identity: Option<Text>,
    /// A trust by name, or `none`.
    #[serde(default)]
    pub trust: Option<Text>,
    /// The host name asked for: SNI and host name verification. Default: the server certificate's common name.
    #[serde(default)]
    pub host: Option<Text>,
    /// Database user. Default: the owner in the Cluster's `initdb`.
    #[serde(default)]
    pub user: Option<Text>,
    /// Database. Default: that of the Cluster's `initdb`.
    #[serde(default)]
    pub database: Option<Text>,
    /// `right`, `wrong` or `none` (PostgreSQL's default; Redis' is `right`).
    #[serde(default)]
    pub password: Option<Text>,
    /// Where the server sees the client: in a network (`pods`, `sites`, `elsewhere`), or at an address of 127.0.0.0/8 or `::1`.
    #[serde(default)]
    pub source: Option<Text>,
    /// `tcp` (default) or `unix` (no relay then).
    #[serde(default)]
    pub transport: Option<Text>,
    /// Lowest TLS version of the client.
    #[serde(default)]
    pub min_tls: Option<Text>,
    /// Highest TLS version of the client.
    #[serde(default)]
    pub max_tls: Option<Text>,
    /// ALPN protocols in place of `postgresql`, comma-separated; `none` offers none; `rustls` only.
    #[serde(default)]
    pub alpn: Option<Text>,
    /// `server` (default) or `gateway`: through the TLS-passthrough gateway in front of it.
    #[serde(default)]
    pub via: Option<Text>,
    /// Environment variables of `nautobot_config.py`, for the drivers that load it (`nautobot-*`). `${identity:NAME/FILE}` and `${trust:NAME}`
    /// stand for the paths of credential files, `${range:NETWORK}` and `${address:NETWORK}` for what the environment has.
    #[serde(default)]
    pub env: Option<BTreeMap<String, Text>>,
    /// `true`: a session of streaming replication, which only `replication` lines of `pg_hba.conf` match; libpq only.
    #[serde(default)]
    pub replication: Option<Text>,
}

/// A run of the `openssl` command.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Openssl {
    /// Its arguments. `${identity:NAME/FILE}` and `${trust:NAME}` stand for the paths of credential files, `${server:client-ca.crt}`
    /// for a file as the server has it.
    pub args: Vec<Text>,
    /// Which machine's `openssl` it is; absent: the server's where `args` name one of its files, else this one's.
    #[serde(default)]
    pub at: Option<CommandPlace>,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CommandPlace {
    /// On the harness's own machine.
    Here,
    /// On the server's machine, as its user where that is a container: what `kubectl exec` does.
    Server,
}

/// What must be seen: a session, a refusal or a command's output, by each witness.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Which cases the row is for; absent: all.
    #[serde(default)]
    pub when: When,
    /// A session, checked at the server.
    #[serde(default)]
    pub session: Option<SessionExpect>,
    /// A refusal of this class. A list: any of these, where clients word one thing in several classes.
    #[serde(default)]
    pub refused: Option<RefusedExpect>,
    /// How far the client must have come, asserted for drivers that can tell.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// The documented text, contained in the message of clients that speak OpenSSL's texts (libpq, psycopg2, redis-py). It can name
    /// networks, as `pg_hba` can.
    #[serde(default)]
    pub text: Option<Text>,
    /// Texts that the server's log lines of this connection must hold. They can name networks, as `pg_hba` can.
    #[serde(default)]
    pub server_log: Option<Texts>,
    /// The wire's events in order.
    #[serde(default)]
    pub wire: Option<Vec<WireEvent>>,
    /// Settings that the application's configuration file must have come to, by name; `none`: not set. For the drivers `nautobot-*`.
    #[serde(default)]
    pub settings: BTreeMap<String, Text>,
    /// `openssl`: lines that its output must hold.
    #[serde(default)]
    pub output: Option<Texts>,
    /// `openssl`: its exit status; 0 if absent.
    #[serde(default)]
    pub status: Option<i32>,
    /// The claims that this row bears on, in place of the scenario's.
    #[serde(default)]
    pub claims: Option<Vec<Text>>,
}

/// One refusal class or several.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RefusedExpect {
    /// Exactly this.
    One(Refusal),
    /// Any of these.
    AnyOf(Vec<Refusal>),
}

impl RefusedExpect {
    /// The classes that satisfy it.
    #[must_use]
    pub fn classes(&self) -> &[Refusal] {
        match self {
            Self::One(refusal) => std::slice::from_ref(refusal),
            Self::AnyOf(refusals) => refusals,
        }
    }
}

impl<'de> Deserialize<'de> for RefusedExpect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RefusedVisitor;
        impl<'de> Visitor<'de> for RefusedVisitor {
            type Value = RefusedExpect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a refusal such as `{alert: unknown-ca}`, or a list of them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RefusedExpect, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(RefusedExpect::AnyOf)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RefusedExpect, A::Error> {
                Refusal::deserialize(MapAccessDeserializer::new(map)).map(RefusedExpect::One)
            }
        }
        deserializer.deserialize_any(RefusedVisitor)
    }
}

/// What a session must look like; fields left out are not asserted, except `tls`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionExpect {
    /// TLS or plaintext, by the client and by `pg_stat_ssl`.
    pub tls: bool,
    /// `current_user`.
    #[serde(default)]
    pub user: Option<Text>,
    /// `pg_stat_ssl.client_dn`; `none`: the server saw no certificate.
    #[serde(default)]
    pub client_dn: Option<Text>,
    /// Protocol version.
    #[serde(default)]
    pub version: Option<TlsVersion>,
    /// ALPN; `none`: none was agreed on. Asserted for drivers that can tell.
    #[serde(default)]
    pub alpn: Option<Text>,
    /// The identity whose certificate the server must have presented. Asserted for drivers that can tell.
    #[serde(default)]
    pub server_certificate: Option<Text>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_schema_beside_the_scenarios_is_that_of_these_types() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios/schema.json");
        let schema = serde_json::to_string_pretty(&schemars::schema_for!(super::Scenario)).expect("a schema") + "\n";
        if std::env::var_os("MTLS_UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &schema).expect("scenarios/schema.json can be written");
        }
        let committed = std::fs::read_to_string(&path).expect("scenarios/schema.json is there");
        assert!(committed == schema, "scenarios/schema.json is stale: run the test with MTLS_UPDATE_SCHEMA=1");
    }
}
