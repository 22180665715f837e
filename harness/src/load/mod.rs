//! Reading files: YAML with source positions, and errors that name file, line and column.

pub mod expand;
mod resolve;
pub mod select;
pub mod set;
pub mod tree;
pub mod yaml;

pub use expand::{Catalogue, expand};
pub use select::Selection;
pub use set::ScenarioSet;
pub use yaml::{LoadError, Place};
