//! Reading files: YAML with source positions, and errors that name file, line and column.

pub mod tree;
pub mod yaml;

pub use yaml::{LoadError, Place};
