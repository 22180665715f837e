//! The deployment as Kubernetes objects: their types, and the configuration of PostgreSQL and Redis that follows from them.
//!
//! Only what decides how clients connect is read; see the tables in `fields.rs` for what is followed, ignored and refused. Objects of unrelated kinds
//! (Namespace, ...) may stand beside them.

pub mod alias;
pub mod certificate;
pub mod cluster;
pub mod external_secret;
mod fields;
pub mod gateway;
pub mod haproxy;
pub mod hba;
mod labels;
mod manifests;
pub mod networks;
mod objects;
mod parameters;
pub mod postgres;
#[cfg(test)]
mod proptests;
pub mod redis;
pub mod redis_conf;
mod redis_lines;
mod redis_workload;
mod references;
pub mod secret;
mod source;
pub mod template;
pub mod unseen;
mod workload;

#[cfg(test)]
mod tests;

pub use manifests::{Manifests, ServiceDefaults};

/// cert-manager's lifetime where a Certificate gives no `duration`: 90 days.
pub const DEFAULT_DURATION: std::time::Duration = std::time::Duration::from_secs(90 * 24 * 3600);
