//! From scenarios to cases: every cell of each matrix with its expectation, names checked, deviations matched; and which of them are meant.

mod deviations;
mod env;
mod expansion;
mod faults;
mod names;
#[cfg(test)]
mod proptests;
mod resolve;
pub mod select;
#[cfg(test)]
mod tests;
mod timeline;

pub use deviations::overdue;
pub use expansion::{Catalogue, expand};
pub use select::Selection;
