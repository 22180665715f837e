//! The Docker engine, as the environment `container` needs it: images that are there, and everything that one run owns.
//!
//! Everything is asked for through one client of the engine's API. Whatever is made
//! carries the run's [`labels`], and is removed by whoever is left to do it: [`Scope::close`] at an orderly end, the run directory's watcher
//! ([`reap`]) when the harness was killed, and the next run ([`Engine::sweep`]) when both were.
//!
//! The engine must be one of this machine: ports are published to its loopback interface.

mod archive;
mod client;
mod container;
mod error;
mod image;
mod labels;
mod limits;
mod network;
mod removal;
mod scope;
mod shared;
mod spec;
mod start;
mod volume;

pub use client::{Engine, EngineInfo};
pub use container::Container;
pub use error::{AttachmentProblem, EngineError, Misuse};
pub use image::ImageFound;
pub use removal::{Kind, Leak, Swept, reap};
pub use scope::{Scope, ScopeOptions};
pub use spec::{Attachment, ContainerSpec, FileSpec};
pub use start::TOKEN_FILE;
pub use volume::HARNESS;

#[cfg(test)]
mod tests;
