//! Judging what was observed: pure.

pub mod agree;
pub mod judge;
