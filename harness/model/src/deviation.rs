//! Known differences between document and reality, as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::Spanned;

use super::scenario::Expect;
use super::text::{OneOrMany, Text};

/// A known difference between document and reality. A case that is seen exactly as `observed` says deviates, and the run still conforms.
/// The run fails when such a case passes, when it fails in another way, and when `review` is past. A pattern that matches no case, and a
/// case that two deviations claim, are errors before anything runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// A name for reports.
    pub id: Text,
    /// Globs over case ids.
    pub cases: Vec<Text>,
    /// Only for this one, `documented` or `cnpg`; absent: both.
    #[serde(default)]
    pub deployment: Option<OneOrMany>,
    /// Only for these PostgreSQL versions; a version may be a comparison such as `">=17"`. Absent: all.
    #[serde(default)]
    pub postgres: Option<OneOrMany>,
    /// What is seen instead: a row without `when` and `claims`.
    #[schemars(with = "Expect")]
    pub observed: Spanned<Expect>,
    /// Claims that it refutes; the cases must bear on them.
    pub refutes: Vec<Text>,
    /// What happens instead, in one line for the list of claims.
    pub summary: String,
    /// Why it happens, for a reader who expected what the document says.
    pub reason: String,
    /// The manual's page, source file or issue that explains it.
    pub reference: String,
    /// The last day on which it counts without another look, `YYYY-MM-DD`.
    pub review: Text,
}
