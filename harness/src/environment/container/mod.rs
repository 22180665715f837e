//! Servers and clients in containers.

pub mod engine;
