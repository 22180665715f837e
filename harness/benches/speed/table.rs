//! What all tables have in common.

/// Columns of a table; every row fits.
pub(crate) const WIDTH: u16 = 170;

/// With so many decimals; `-` for what could not be had.
pub(crate) fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}
