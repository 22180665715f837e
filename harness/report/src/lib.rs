//! Reporters: what becomes of a run's events.
//!
//! [`terminal::Terminal`] talks while the run goes on; [`files::FileReports`] spools cases to disk and writes its targets at the end, so
//! that memory does not grow with the cases. Both are [`run::event::Reporter`]s.

pub mod claims_table;
pub mod doctor;
pub mod failure;
pub mod files;
pub mod json;
pub mod junit;
pub mod markdown;
pub mod parity;
pub mod run_result;
mod selection;
pub mod spool;
pub mod tables;
pub mod tally;
pub mod target;
pub mod terminal;
mod text;

#[cfg(test)]
pub(crate) mod fixture;

pub use files::FileReports;
pub use target::{Format, ReportError, ReportTarget};
pub use terminal::Terminal;
