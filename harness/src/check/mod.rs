//! Judging what was observed: pure, no I/O.

pub mod divergence;
pub mod latency;
pub mod ledger;
pub mod short;
