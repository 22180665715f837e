//! YAML text to typed values; every error has its place.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::boolean;

/// A place in a file. Line and column count from 1; 0 where the place is the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// The file, as given by the user.
    pub file: PathBuf,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// The column, from 1; 0 for the file as a whole.
    pub column: u64,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn file(file: &Path) -> Self {
        Self { file: file.to_path_buf(), line: 0, column: 0 }
    }

    /// A line and column of it.
    #[must_use]
    pub fn at(file: &Path, (line, column): (u64, u64)) -> Self {
        Self { file: file.to_path_buf(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// A file that can't be used: where and why, and what would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct LoadError {
    /// The file, line and column to look at.
    pub place: Place,
    /// What is wrong there, and what is allowed.
    pub message: String,
}

impl LoadError {
    /// An error at a place.
    #[must_use]
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into() }
    }
}

/// Reads a file.
///
/// # Errors
/// [`LoadError`] with the operating system's reason.
pub fn read(file: &Path) -> Result<String, LoadError> {
    std::fs::read_to_string(file).map_err(|source| LoadError::new(Place::file(file), format!("can't be read: {source}")))
}

/// One YAML document as a `T`.
///
/// # Errors
/// [`LoadError`] with line and column; unknown and duplicate keys are errors.
pub fn one<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, LoadError> {
    serde_saphyr::from_str(text).map_err(|error| located(file, text, &error))
}

/// Every document of a YAML stream as a `T`; empty documents are left out.
///
/// # Errors
/// As [`one`].
pub fn many<T: DeserializeOwned>(file: &Path, text: &str) -> Result<Vec<T>, LoadError> {
    serde_saphyr::from_multiple(text).map_err(|error| located(file, text, &error))
}

fn located(file: &Path, text: &str, error: &serde_saphyr::Error) -> LoadError {
    let place = error.location().map_or_else(|| Place::file(file), |location| Place::at(file, (location.line(), location.column())));
    // The place stands in front already; the snippet would break the one-line rule.
    let message = error.without_snippet().to_string();
    let message = message.lines().next().unwrap_or_default().trim();
    let message = message.rsplit_once(" at line ").map_or(message, |(head, _)| head);
    let mut message = in_words_of_the_file(message);
    if message.contains("boolean")
        && let Some(word) = boolean::word_at_or_behind_key(text, (place.line, place.column))
    {
        message.push_str(&format!(" (`{word}` without quotes is a boolean in YAML: write \"{word}\" for the text, else true or false)"));
    }
    LoadError::new(place, message)
}

/// What to say of a boolean at this place where a text is meant; `None` where it is written `true` or `false`. Reads the file once more.
#[must_use]
pub fn unquoted_boolean(place: &Place, value: bool) -> Option<LoadError> {
    let word = boolean::word_at(&read(&place.file).ok()?, (place.line, place.column))?;
    let message = format!("`{word}` without quotes is the boolean {value} in YAML: write \"{word}\" for the text, else {value}");
    Some(LoadError::new(place.clone(), message))
}

/// The parser's message without what only its own caller could follow.
fn in_words_of_the_file(message: &str) -> String {
    match message {
        "expected sequence start" => "expected a list".to_owned(),
        "expected mapping start" => "expected a map".to_owned(),
        "invalid boolean" => "expected true or false".to_owned(),
        "expected string scalar" => "expected a text".to_owned(),
        "invalid u16" | "invalid u32" | "invalid u64" | "invalid i32" | "invalid i64" => "expected a whole number".to_owned(),
        "unexpected end of input" => "the file ends where something is still expected".to_owned(),
        other => other.trim_end_matches(", set DuplicateKeyPolicy in Options if acceptable").to_owned(),
    }
}
