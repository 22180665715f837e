//! Running cases: schedule, one case, events, and their fold. Never imports a reporter.

mod between;
mod command;
mod control;
pub mod event;
pub mod execute;
pub mod fold;
mod gateway;
mod keep;
pub mod material;
mod observe;
pub mod schedule;
mod timeline;
