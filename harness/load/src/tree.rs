//! A YAML document as a tree whose every key and value knows its place: for checks that types alone can't make, such as
//! references between documents.

use std::fmt;
use std::path::Path;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

use super::yaml::{self, LoadError, Place};

/// Line and column, from 1.
pub type Position = (u64, u64);

/// A value with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Where the value begins in its file.
    pub position: Position,
    /// The value itself, with the places of everything in it.
    pub node: Node,
}

/// A YAML value; scalars as their text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// `null`, or nothing behind a key.
    Null,
    /// A text, number or boolean, as its text.
    Scalar(String),
    /// A list, in the file's order.
    Sequence(Vec<Tree>),
    /// A map in the file's order.
    Mapping(Vec<Entry>),
}

/// One key of a map with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key as a text, whatever YAML type it has.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// The value that stands behind the key.
    pub value: Tree,
}

impl Tree {
    /// The value below these keys; an index in a list is a key too.
    #[must_use]
    pub fn get(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |tree, key| match &tree.node {
            Node::Sequence(items) => key.parse().ok().and_then(|index: usize| items.get(index)),
            _ => tree.entries().iter().find(|entry| entry.key == *key).map(|entry| &entry.value),
        })
    }

    /// The entries of a map; none for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        if let Node::Mapping(entries) = &self.node { entries } else { &[] }
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        if let Node::Sequence(items) = &self.node { items } else { &[] }
    }

    /// The items of the list below these keys; none where there is no such list.
    #[must_use]
    pub fn items_at(&self, keys: &[&str]) -> &[Self] {
        self.get(keys).map(Self::items).unwrap_or_default()
    }

    /// The text of a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Node::Scalar(text) = &self.node { Some(text) } else { None }
    }

    /// The text of the scalar below these keys.
    #[must_use]
    pub fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.get(path).and_then(Self::text)
    }

    /// The place of the value below these keys, or of the deepest of them that is there.
    #[must_use]
    pub fn position_of(&self, path: &[&str]) -> Position {
        let mut tree = self;
        let mut position = self.position;
        for key in path {
            if let Node::Sequence(items) = &tree.node {
                let Some(item) = key.parse().ok().and_then(|index: usize| items.get(index)) else { break };
                (tree, position) = (item, item.position);
                continue;
            }
            let Some(entry) = tree.entries().iter().find(|entry| entry.key == *key) else { break };
            position = if entry.value.text().is_some() { entry.value.position } else { entry.position };
            tree = &entry.value;
        }
        position
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Node>::deserialize(deserializer)?;
        Ok(Self { position: position(&spanned.referenced), node: spanned.value })
    }
}

fn position(location: &Location) -> Position {
    (location.line(), location.column())
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NodeVisitor;
        impl<'de> Visitor<'de> for NodeVisitor {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML value")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_none<E>(self) -> Result<Node, E> {
                Ok(Node::Null)
            }

            fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
                Node::deserialize(deserializer)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Scalar(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Node::Sequence(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some((key, value)) = map.next_entry::<Spanned<String>, Tree>()? {
                    entries.push(Entry { position: position(&key.referenced), key: key.value, value });
                }
                Ok(Node::Mapping(entries))
            }
        }
        deserializer.deserialize_any(NodeVisitor)
    }
}

/// One document of a YAML stream.
#[derive(Debug, Clone)]
pub struct Document {
    /// Its text, with an empty line for every line before it, so that places are those of the file.
    pub text: String,
    /// The same as a tree.
    pub tree: Tree,
}

/// The documents of a YAML stream; empty ones are left out.
///
/// # Errors
/// [`LoadError`] with line and column where the text is no YAML.
pub fn documents(file: &Path, text: &str) -> Result<Vec<Document>, LoadError> {
    let mut found = Vec::new();
    let mut current = String::new();
    let mut has_content = false;
    for (number, line) in text.lines().enumerate() {
        // A line that begins with `---` always ends a document: inside one, block scalars are indented.
        if line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            if has_content {
                found.push(document(file, std::mem::take(&mut current))?);
            }
            // What stands behind the marker on its own line is seldom anything but a comment.
            current = "\n".repeat(number);
            current.push_str("   ");
            current.push_str(&line[3..]);
            has_content = is_content(&line[3..]);
        } else {
            current.push_str(line);
            has_content |= is_content(line);
        }
        current.push('\n');
    }
    if has_content {
        found.push(document(file, current)?);
    }
    Ok(found)
}

/// The place of the value below these keys, or of the deepest of them that is there, in the first document of a file; the file as a
/// whole where it can't be read. Reads the file once more: meant for errors.
#[must_use]
pub fn place(file: &Path, keys: &[&str]) -> Place {
    let documents = yaml::read(file).and_then(|text| documents(file, &text)).unwrap_or_default();
    documents.first().map_or_else(|| Place::file(file), |document| Place::at(file, document.tree.position_of(keys)))
}

fn is_content(line: &str) -> bool {
    let line = line.trim();
    !line.is_empty() && !line.starts_with('#')
}

fn document(file: &Path, text: String) -> Result<Document, LoadError> {
    let tree: Tree = yaml::one(file, &text)?;
    Ok(Document { text, tree })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# a comment\n---\nkind: A\nspec:\n  names:\n    - one\n    - two\n--- # more\n# only a comment\n---\nkind: B\nempty:\ncount: 3\n";

    #[test]
    fn every_document_keeps_the_places_of_the_file() {
        let documents = documents(Path::new("f.yaml"), TEXT).expect("it is YAML");
        assert_eq!(documents.len(), 2);
        let first = &documents[0].tree;
        assert_eq!(first.text_at(&["kind"]), Some("A"));
        assert_eq!(first.position_of(&["kind"]), (3, 7));
        assert_eq!(first.get(&["spec", "names"]).map(Tree::items).map(|items| items[1].position), Some((7, 7)));
        let second = &documents[1].tree;
        assert_eq!(second.entries()[0].position, (11, 1));
        assert_eq!(second.get(&["empty"]).map(|tree| &tree.node), Some(&Node::Null));
        assert_eq!(second.text_at(&["count"]), Some("3"));
    }

    #[test]
    fn the_place_of_something_absent_is_that_of_its_parent() {
        let documents = documents(Path::new("f.yaml"), TEXT).expect("it is YAML");
        assert_eq!(documents[0].tree.position_of(&["spec", "nothing"]), (4, 1));
    }

    #[test]
    fn broken_text_is_an_error_at_its_line() {
        let error = documents(Path::new("f.yaml"), "kind: A\n---\nkind: [1\n").expect_err("the list never ends");
        assert!(error.place.line >= 3, "{error}");
    }
}
