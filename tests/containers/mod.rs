//! Runs in containers: whatever ends one, nothing of it is left, and what can't run in a container says why.

mod broken;
mod doctor;
mod ends;
mod leak;
mod lost;
mod outside;
mod reuse;
mod watcher;

pub(crate) use ends::CONTAINERS;
pub(crate) use outside::{IMAGES, Outside};
