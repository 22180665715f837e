//! Judging what was observed: pure, no I/O.

pub mod agree;
pub mod divergence;
pub mod judge;
pub mod ledger;
pub mod short;
pub mod timeline;
