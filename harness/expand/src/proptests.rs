//! Properties of scenarios with a slip in them. `PROPTEST_CASES` says how many inputs of each.

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::expand;
use super::tests::{DEVIATIONS, SCENARIO, TIMELINE, catalogue, set_of};
use load::properties::is_helpful;
use load::yaml;
use model::scenario::Scenario;

/// One change of a file that a person may make: a character more, less or other, or a line moved in, away or twice.
#[derive(Debug, Clone)]
enum Change {
    Insert(Index, char),
    Remove(Index),
    Indent(Index),
    Drop(Index),
    Twice(Index),
}

fn change() -> impl Strategy<Value = Change> {
    let character = prop_oneof![4 => select("\"'{}[]:,-#&*!|>%@`$ \n\t~.0aé".chars().collect::<Vec<_>>()), 1 => any::<char>()];
    prop_oneof![
        2 => (any::<Index>(), character).prop_map(|(place, character)| Change::Insert(place, character)),
        2 => any::<Index>().prop_map(Change::Remove),
        1 => any::<Index>().prop_map(Change::Indent),
        1 => any::<Index>().prop_map(Change::Drop),
        1 => any::<Index>().prop_map(Change::Twice),
    ]
}

/// A text with these changes, one after the other.
fn changed(text: &str, changes: &[Change]) -> String {
    changes.iter().fold(text.to_owned(), |text, change| {
        let mut characters: Vec<char> = text.chars().collect();
        let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
        match change {
            Change::Insert(place, character) => characters.insert(place.index(characters.len() + 1), *character),
            Change::Remove(place) if !characters.is_empty() => drop(characters.remove(place.index(characters.len()))),
            Change::Remove(_) => {}
            Change::Indent(place) => {
                let line = place.index(lines.len());
                lines[line].insert_str(0, "  ");
                return lines.join("\n");
            }
            Change::Drop(place) => {
                lines.remove(place.index(lines.len()));
                return lines.join("\n");
            }
            Change::Twice(place) => {
                let line = place.index(lines.len());
                lines.insert(line, lines[line].clone());
                return lines.join("\n");
            }
        }
        characters.into_iter().collect()
    })
}

proptest! {
    #[test]
    fn a_changed_scenario_is_read_or_its_error_has_a_place(text in select(vec![SCENARIO, TIMELINE]), changes in vec(change(), 0..4)) {
        let text = changed(text, &changes);
        let file = Path::new("a/case.yaml");
        if let Err(error) = yaml::one::<Scenario>(file, &text) {
            is_helpful(&error, file, &text);
        }
    }

    #[test]
    fn a_set_with_changed_files_is_expanded_or_every_error_names_one_of_them(
        scenario in vec(change(), 0..3), timeline in vec(change(), 0..3), deviations in vec(change(), 0..3),
    ) {
        let credentials = "identities: {app: {certificate: app}}\ntrusts: {mtls-ca: {secret: ca}}\n".to_owned();
        let texts = [changed(SCENARIO, &scenario), changed(TIMELINE, &timeline), changed(DEVIATIONS, &deviations), credentials];
        let files: Vec<(&str, &str)> =
            ["a/case.yaml", "a/timeline.yaml", "deviations.yaml", "credentials.yaml"].into_iter().zip(texts.iter().map(String::as_str)).collect();
        let (directory, set) = set_of(&files);
        let errors = match set {
            Err(errors) => errors,
            Ok(set) => expand(&set, &catalogue()).err().unwrap_or_default(),
        };
        for error in &errors {
            let named: Vec<PathBuf> = files.iter().map(|(file, _)| directory.path().join(file)).collect();
            let Some(index) = named.iter().position(|file| *file == error.place.file) else {
                return Err(TestCaseError::fail(format!("{error} is in none of the files")));
            };
            is_helpful(error, &named[index], files[index].1);
        }
    }
}
