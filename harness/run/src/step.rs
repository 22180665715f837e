//! What one step of a case came to.

use model::observation::Phases;
use model::outcome::Mismatch;
use model::report::{ClientRecord, StepRecord};

/// A step that was carried out and judged.
pub(crate) struct StepResult {
    pub(crate) record: StepRecord,
    pub(crate) mismatches: Vec<Mismatch>,
    /// The same observation against the deviation's signature.
    pub(crate) deviation: Option<Vec<Mismatch>>,
    /// Of a connection with a session: whose latencies they are, and they themselves.
    pub(crate) session: Option<(ClientRecord, Phases)>,
    /// How its positive control differed from it, where it had one.
    pub(crate) control: Option<String>,
}
