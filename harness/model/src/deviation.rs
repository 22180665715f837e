//! Known differences between document and reality, as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::scenario::Expect;
use super::text::{OneOrMany, Text};

/// One known difference. It fails the run when its cases pass, when they fail differently, when it matches no case, or when its review date is past.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Its name.
    pub id: Text,
    /// Globs over case ids.
    pub cases: Vec<Text>,
    /// `documented`, `cnpg`; absent: both.
    #[serde(default)]
    pub deployment: Option<OneOrMany>,
    /// PostgreSQL versions it holds for, such as `">=17"`; absent: all.
    #[serde(default)]
    pub postgres: Option<OneOrMany>,
    /// What is seen instead: a row as in a scenario's `expect`, without `when`.
    #[schemars(with = "Expect")]
    pub observed: Spanned<Expect>,
    /// Claims that it refutes.
    pub refutes: Vec<Text>,
    /// What happens instead, in one line for the ledger.
    pub summary: String,
    /// Why.
    pub reason: String,
    /// Manual page, source file or issue that explains it.
    pub reference: String,
    /// The day after which it must be looked at again, `YYYY-MM-DD`.
    pub review: Text,
}
