//! Running cases: schedule, one case, events. Never imports a reporter.

pub mod control;
pub mod event;
pub mod execute;
pub mod material;
pub mod schedule;
