//! Running cases: schedule, one case, events, and their fold. Never imports a reporter.

mod case_relay;
mod command;
mod connect_context;
pub mod context;
mod control;
pub mod credentials;
pub mod event;
mod execute;
pub mod fold;
mod gateway;
pub mod keep;
mod not_run;
mod observe;
pub mod schedule;
mod step;
mod timeline;
