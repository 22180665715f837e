//! Running cases: schedule, one case, events, and their fold. Never imports a reporter.

mod case_relay;
mod command;
mod control;
pub mod credentials;
pub mod event;
pub mod execute;
pub mod fold;
mod gateway;
mod keep;
mod not_run;
mod observe;
pub mod schedule;
mod timeline;
