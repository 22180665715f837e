//! What holds for any text of a file. Property tests, here and in `expand`, call it; it panics where its property does not hold.

use std::path::Path;

use super::LoadError;

/// An error names the file, a place in it that is there, and what is wrong in one line.
///
/// # Panics
/// Where that does not hold.
pub fn is_helpful(error: &LoadError, file: &Path, text: &str) {
    assert_eq!(error.place.file, file);
    let lines = text.lines().count() as u64;
    // Where something is missing at the end, the place is the line behind the last one.
    assert!(error.place.line <= lines + 1, "{error} of {lines} lines");
    assert!(error.place.line == 0 || error.place.column >= 1, "{error}");
    assert!(!error.message.trim().is_empty() && !error.message.contains('\n'), "{error}");
}
