//! A scenario file: which claims, which deployment, a matrix, steps, expectations.
//!
//! Strings marked [`Text`] may hold `${axis}`; they are replaced by the case's value before they get their type.

pub mod connect;
pub mod refused;

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
use super::refusal::Stage;
use super::server::Service;
use super::text::{OneOrMany, Scalar, Text, Texts};
use super::timeline::Timeline;
use super::when::When;
use super::wire::WireEvent;
pub use connect::Connect;
pub use refused::RefusedExpect;

/// The values of an axis: a list, or names with the text that `${axis}` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Axis {
    /// Values that stand for themselves. A value can't hold a space, a comma or a quote, since case ids have it in them. On the axis
    /// `driver`, globs over the known drivers (`mtls-conformance doctor` lists them).
    Values(Vec<Scalar>),
    /// Short names for longer texts, in the file's order: the name stands in case ids and conditions, the text for `${axis}`.
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

/// A scenario: which claims, which deployment, a matrix, and what each witness must see. A cell of the matrix that no row of `expect`
/// covers, a row that no cell reaches and a value that no axis has are errors before anything runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `<subject>/<behaviour>`: the file's path below the folder of scenarios, without `.yaml`.
    pub id: Text,
    /// One line that names the behaviour, for lists and reports.
    pub title: String,
    /// What a reader should know: why, and where the rule comes from.
    #[serde(default)]
    pub description: Option<String>,
    /// Ids of claims that every row bears on, unless the row has `claims` of its own. `[]` where there is no document.
    #[serde(default)]
    pub claims: Vec<Text>,
    /// The kind of server that the cases connect to.
    #[serde(default = "postgres")]
    pub service: Service,
    /// `documented`: the configuration as the document shows it, nothing else. `cnpg`: as CloudNativePG writes it around the user's lines.
    /// A list runs both.
    pub deployment: OneOrMany,
    /// The only environment in which the scenario means something; in the others its cases are skipped, and say so. Absent: all.
    #[serde(default)]
    pub needs: Option<EnvironmentNeed>,
    /// PostgreSQL major versions; absent: every one that the harness knows. Not for Redis scenarios.
    #[serde(default)]
    pub postgres: Option<Vec<u16>>,
    /// Axis name to values; the cases are their product, first axis slowest, with `deployment` and `postgres` before them. `${axis}` stands
    /// for the axis' value in `connect`, `server`, `openssl` and the texts of rows. A case is skipped, with its reason, where server or
    /// driver is not installed or the driver can't do what is asked.
    #[serde(default)]
    pub matrix: IndexMap<String, Axis>,
    /// Cells to leave out, each a condition as in `when`.
    #[serde(default)]
    pub exclude: Vec<When>,
    /// What differs from the deployment's own configuration.
    #[serde(default)]
    pub server: ServerPatch,
    /// Credentials of this scenario only, beside those of `credentials.yaml`.
    #[serde(default)]
    pub credentials: Credentials,
    /// Every case that expects a refusal makes a second connection, which must succeed: the control. The first item whose `when` holds is
    /// taken.
    #[serde(default)]
    pub control: Vec<Control>,
    /// What is done, in order: each step connects or runs `openssl`.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// In place of `steps`: the deployment changes while clients run. There is no `control` then.
    #[serde(default)]
    pub timeline: Option<Timeline>,
}

/// An environment by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EnvironmentNeed {
    /// `--environment local`: servers are processes of this machine.
    Local,
    /// `--environment container`: each server has a container of its own, with files where CloudNativePG has them.
    Container,
}

impl EnvironmentNeed {
    /// The environment's name, as `--environment` takes it.
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

/// What differs from the deployment's own configuration of the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerPatch {
    /// Lines in place of the Cluster's own; `cnpg` keeps writing its lines around them. A text with several lines is several lines.
    /// `${range:NETWORK}` stands for a network's range in CIDR notation, and `${address:NETWORK}` for the address that a client in it has.
    /// Networks are `pods`, `sites`, `elsewhere` and `gateway`, whose address is the gateway's own.
    #[serde(default)]
    pub pg_hba: Option<Vec<Text>>,
    /// Settings of postgresql.conf or redis.conf by name, in place of the deployment's.
    #[serde(default)]
    pub settings: BTreeMap<String, Text>,
    /// The identity whose certificate and key the server presents; `default`, or absent: the deployment's.
    #[serde(default)]
    pub certificate: Option<Text>,
    /// The trust in `ssl_ca_file` (PostgreSQL) or `tls-ca-cert-file` (Redis); `none` empties it; `default`, or absent: the deployment's.
    #[serde(default)]
    pub client_ca: Option<Text>,
    /// The revocation list in `ssl_crl_file`; `none`, or absent: there is none. PostgreSQL only.
    #[serde(default)]
    pub crl: Option<Text>,
}

/// The connection that must succeed beside a refused one, to the same server in the same configuration. If it does not, the case is an
/// error: nothing is known about a server that refuses everybody.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// The cases that it is for; absent: all.
    #[serde(default)]
    pub when: When,
    /// Fields that replace those of the step's `connect`. Replace as little as possible.
    pub connect: Connect,
}

/// One step: `connect` or `openssl`, and what is expected of it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Connects to the server.
    #[serde(default)]
    pub connect: Option<Connect>,
    /// Runs the `openssl` command.
    #[serde(default)]
    pub openssl: Option<Openssl>,
    /// What must be seen. The first row whose `when` holds is the case's expectation, so the special stands before the general.
    #[schemars(with = "Vec<Expect>")]
    pub expect: Vec<Spanned<Expect>>,
}

/// A run of the `openssl` command. The report's `command` is the command line that ran.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Openssl {
    /// Its arguments. `${identity:NAME/FILE}` (`tls.crt`, `tls.key`, `ca.crt`) and `${trust:NAME}` are paths of files,
    /// `${server:client-ca.crt}` and its like are files as the server has them.
    pub args: Vec<Text>,
    /// Whose `openssl` it is. Absent: a command that names a file of the server runs there, any other here.
    #[serde(default)]
    pub at: Option<CommandPlace>,
}

/// Where a command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CommandPlace {
    /// On the machine of the harness.
    Here,
    /// On the server's machine, as the server's user, as `kubectl exec` has it. In a container it has the paths of CloudNativePG
    /// (`${server:client-ca.crt}` is `/controller/certificates/client-ca.crt`), and clients' files that it names are copied there first.
    Server,
}

/// A row of expectations. It has exactly one of `session`, `refused`, `objection` and `output`. Beside the row, the witnesses must agree
/// among themselves in every case: a session in plaintext that the wire saw as TLS fails, whatever the row says.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The cases that the row is for; absent: all that are left. It maps axes to values, and all must match. Each takes one value or a
    /// list, of which one must match: an exact value, a glob (`"libpq-*"`), anything else (`"!rustls"`), or a comparison of numbers
    /// (`"<17"`, `"<=17"`, `">17"`, `">=17"`). Two more axes follow from the driver: `family` (`rustls`, `libpq`, `redis-rs`, `redis-py`,
    /// `other`; psycopg2 is of the family `libpq`) and `libpq` (its major version; no number matches for a client without libpq).
    #[serde(default)]
    pub when: When,
    /// A session, checked at the server.
    #[serde(default)]
    pub session: Option<SessionExpect>,
    /// A class of refusal, or a list of classes of which one must be seen, where clients word one thing in several ways.
    #[serde(default)]
    pub refused: Option<RefusedExpect>,
    /// The server does not start with the case's configuration, and says so in these words: each text must be in its log or output. Nobody
    /// connects then, so that every step of the case has such a row, and no other field stands beside it. In its place the same server,
    /// with the deployment's own configuration, must start: that is the control. A server that starts in spite of such a row fails the
    /// case; one that does not start without such a row is an error. The texts can name networks, as `pg_hba` can.
    #[serde(default)]
    pub objection: Option<Texts>,
    /// How far a refused client must have come. Asserted where the driver can tell.
    #[serde(default)]
    pub stage: Option<Stage>,
    /// Documented words that the client's message must hold. Asserted for the families `libpq` and `redis-py`, which use OpenSSL's and the
    /// server's words, and for every family where the refusal is `unclassified`. It can name networks, as `pg_hba` can.
    #[serde(default)]
    pub text: Option<Text>,
    /// Texts that the server's lines about this connection must hold, in message or detail. They can name networks, as `pg_hba` can.
    #[serde(default)]
    pub server_log: Option<Texts>,
    /// Every event on the wire, in order.
    #[serde(default)]
    pub wire: Option<Vec<WireEvent>>,
    /// Settings that the application's configuration file must have come to, by name, such as `sslmode: verify-ca`; `none`: not set. The
    /// drivers `nautobot-*` only. `${mount}` is where such a file finds its certificates, here as in every text: the directory of
    /// `--nautobot-mount`.
    #[serde(default)]
    pub settings: BTreeMap<String, Text>,
    /// For `openssl`: texts that must be found in what the command prints.
    #[serde(default)]
    pub output: Option<Texts>,
    /// For `openssl`: its exit status; 0 if absent.
    #[serde(default)]
    pub status: Option<i32>,
    /// Claims that this row bears on, in place of the scenario's; `[]` for none.
    #[serde(default)]
    pub claims: Option<Vec<Text>>,
}

/// What a session must look like; fields left out are not asserted, except `tls`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionExpect {
    /// TLS or plaintext, by the client and by `pg_stat_ssl`.
    pub tls: bool,
    /// The session's `current_user`; absent: not asserted.
    #[serde(default)]
    pub user: Option<Text>,
    /// The certificate that the server saw (`pg_stat_ssl.client_dn`), such as `/CN=app`; `none`: it saw none.
    #[serde(default)]
    pub client_dn: Option<Text>,
    /// The version that was agreed on.
    #[serde(default)]
    pub version: Option<TlsVersion>,
    /// The protocol that was agreed on; `none`: none was. Asserted where the driver can tell.
    #[serde(default)]
    pub alpn: Option<Text>,
    /// The identity whose certificate the server must have presented. Asserted where the driver can tell.
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
