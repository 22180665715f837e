//! Reading files: YAML with source positions, and errors that name file, line and column.

pub mod boolean;
pub mod images;
mod nearest;
pub mod properties;
#[cfg(test)]
mod proptests;
pub mod rows;
pub mod set;
pub mod tree;
pub mod yaml;

pub use nearest::{UnknownName, nearest};
pub use set::ScenarioSet;
pub use yaml::{LoadError, Place};
