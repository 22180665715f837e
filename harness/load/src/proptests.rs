//! Properties of the reader of YAML files. `PROPTEST_CASES` says how many inputs of each.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;

use super::properties::is_helpful;
use super::tree::{Node, Tree, documents};

/// A YAML value that JSON can write, but that all its scalars are texts.
fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![1 => Just(Node::Null), 4 => "[ -~é\u{2028}]{0,8}".prop_map(Node::Scalar)];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let tree = inner.prop_map(|node| Tree { position: (0, 0), node });
        prop_oneof![
            vec(tree.clone(), 0..4).prop_map(Node::Sequence),
            proptest::collection::btree_map("[a-z :#\"]{1,6}", tree, 0..4).prop_map(|map| {
                let entry = |(key, value)| super::tree::Entry { key, position: (0, 0), value };
                Node::Mapping(map.into_iter().map(entry).collect())
            }),
        ]
    })
}

/// The node as JSON, which is YAML too, with a line for each item.
fn written(node: &Node) -> serde_json::Value {
    match node {
        Node::Null => serde_json::Value::Null,
        Node::Scalar(text) => text.clone().into(),
        Node::Sequence(items) => items.iter().map(|item| written(&item.node)).collect(),
        Node::Mapping(entries) => {
            let map: serde_json::Map<_, _> = entries.iter().map(|entry| (entry.key.clone(), written(&entry.value.node))).collect();
            map.into()
        }
    }
}

/// That two nodes are the same, places aside, and that every scalar that was read stands at its place in the text.
fn is_read(expected: &Node, found: &Tree, text: &str) -> Result<(), TestCaseError> {
    match (expected, &found.node) {
        (Node::Null, Node::Null) => {}
        (Node::Scalar(expected), Node::Scalar(found_text)) => {
            prop_assert_eq!(expected, found_text);
            let (line, column) = found.position;
            let line = text.split('\n').nth(usize::try_from(line).expect("few") - 1).expect("the line is there");
            let rest: String = line.chars().skip(usize::try_from(column).expect("few") - 1).collect();
            let literal = serde_json::to_string(expected).expect("a text");
            prop_assert!(rest.starts_with(&literal), "{} is not at {:?}: {}", literal, found.position, rest);
        }
        (Node::Sequence(expected), Node::Sequence(items)) => {
            prop_assert_eq!(expected.len(), items.len());
            for (expected, item) in expected.iter().zip(items) {
                is_read(&expected.node, item, text)?;
            }
        }
        (Node::Mapping(expected), Node::Mapping(entries)) => {
            prop_assert_eq!(expected.len(), entries.len());
            for (expected, entry) in expected.iter().zip(entries) {
                prop_assert_eq!(&expected.key, &entry.key);
                is_read(&expected.value.node, &entry.value, text)?;
            }
        }
        (expected, found) => prop_assert!(false, "{:?} became {:?}", expected, found),
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_document_is_the_tree_that_was_written_and_its_places_are_those_of_the_text(node in node()) {
        let text = serde_json::to_string_pretty(&written(&node)).expect("it can be written");
        let found = documents(Path::new("f.yaml"), &text).expect("JSON is YAML");
        prop_assert_eq!(found.len(), 1);
        is_read(&node, &found[0].tree, &text)?;
    }

    #[test]
    fn documents_of_a_stream_are_read_as_each_alone_with_the_places_of_the_file(nodes in vec(node(), 0..4), comments in vec(any::<bool>(), 4)) {
        let texts: Vec<String> = nodes.iter().map(|node| serde_json::to_string_pretty(&written(node)).expect("it can be written")).collect();
        let mut stream = String::new();
        for (text, comment) in texts.iter().zip(comments) {
            stream.push_str(if comment { "---\n# only a comment\n--- # and another\n" } else { "---\n" });
            stream.push_str(text);
            stream.push('\n');
        }
        let found = documents(Path::new("f.yaml"), &stream).expect("JSON is YAML");
        prop_assert_eq!(found.len(), nodes.len());
        for (node, document) in nodes.iter().zip(&found) {
            is_read(node, &document.tree, &stream)?;
        }
    }

    #[test]
    fn any_text_is_yaml_or_its_error_has_a_place(text in prop_oneof![any::<String>(), "[ \n:#a\"'{}\\[\\]|>-]{0,40}"]) {
        let file = Path::new("f.yaml");
        if let Err(error) = documents(file, &text) {
            is_helpful(&error, file, &text);
        }
    }
}
