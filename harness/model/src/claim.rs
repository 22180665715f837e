//! A claim: one statement of a document that a run can confirm or refute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The program whose behaviour a claim is about.
///
/// An emulated subject can't confirm a claim about itself: a claim about cert-manager needs cert-manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The PostgreSQL server, of any supported major version.
    Postgres,
    /// libpq, the PostgreSQL client library.
    Libpq,
    /// The Redis server with its TLS port.
    Redis,
    /// The `openssl` command line program.
    Openssl,
    /// Client programs: psycopg2, redis-py and the like.
    Clients,
    /// The deployment's own configuration (`nautobot_config.py`, values, Secrets).
    Config,
    /// cert-manager, which issues certificates.
    CertManager,
    /// The CloudNativePG operator: what it writes and when.
    Cnpg,
    /// Helm, which renders charts.
    Helm,
    /// Nautobot, the application that the documents deploy.
    Nautobot,
    /// A gateway that passes TLS through and routes by host name.
    Gateway,
}

/// Why no scenario of the set can exercise a claim yet: what has to be real for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Awaits {
    /// What would have to run: an environment or a program, in a few words.
    pub needs: String,
    /// Why nothing smaller shows it.
    pub reason: String,
}

/// One statement of a document. One case that deviates, fails or passes unexpectedly refutes it; otherwise one that passes confirms it. If
/// none of its subjects is real in the environment, it stays not exercised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Dotted name, such as `postgres.cn-is-user`.
    pub id: String,
    /// What the document says, in our words.
    pub statement: String,
    /// The document's file name.
    pub document: String,
    /// The heading it stands under.
    pub section: String,
    /// The programs whose behaviour it is about.
    pub subject: Vec<Subject>,
    /// What would have to run, where no scenario names the claim yet. One that no scenario names must have it; one that has both is an
    /// error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub awaits: Option<Awaits>,
}

/// What a run says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every case that names it passed, and at least one did.
    Confirmed,
    /// At least one case showed something else than the document says.
    Refuted,
    /// No case with a real subject ran to a verdict.
    NotExercised,
}
