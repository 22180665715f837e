//! One YAML document of the manifests, and errors at its places.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use load::tree::{Document, Position, Tree};
use load::yaml;
use load::{LoadError, Place};

/// A document with the file it came from.
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) document: Document,
}

impl Source {
    /// The place of a value.
    pub(super) fn at(&self, path: &[&str]) -> Place {
        Place::at(&self.file, self.document.tree.position_of(path))
    }

    /// An error at a value.
    pub(super) fn error(&self, path: &[&str], message: impl Into<String>) -> LoadError {
        LoadError::new(self.at(path), message)
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.document.tree
    }

    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        self.tree().text_at(path)
    }

    /// The number that stands at a place, as it is written: the tree holds its value, and has lost the zero that makes it octal.
    pub(super) fn written(&self, (line, column): Position) -> String {
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
        let line = self.document.text.lines().nth(index(line)).unwrap_or_default();
        line.chars().skip(index(column)).take_while(char::is_ascii_alphanumeric).collect()
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, LoadError> {
        yaml::one(&self.file, &self.document.text)
    }

    pub(super) fn name(&self) -> Result<String, LoadError> {
        match self.text(&["metadata", "name"]) {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(self.error(&["metadata"], "`metadata.name` is missing")),
        }
    }

    pub(super) fn namespace(&self) -> Option<String> {
        self.text(&["metadata", "namespace"]).map(str::to_owned)
    }
}
