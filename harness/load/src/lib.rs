//! Reading files: YAML with source positions, and errors that name file, line and column.

mod boolean;
mod deviations;
pub mod expand;
mod faults;
pub mod images;
mod names;
mod nearest;
#[cfg(test)]
mod proptests;
mod resolve;
mod rows;
pub mod select;
pub mod set;
#[cfg(test)]
mod tests;
mod timeline;
pub mod tree;
pub mod yaml;

pub use deviations::overdue;
pub use expand::{Catalogue, expand};
pub use nearest::nearest;
pub use select::Selection;
pub use set::ScenarioSet;
pub use yaml::{LoadError, Place};
