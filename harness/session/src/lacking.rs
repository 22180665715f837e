//! Objects that scenarios and credentials name and the manifests lack: one error for each, however often it is named.

use std::collections::BTreeMap;

use load::LoadError;

/// Something that can't be made from the manifests.
pub(super) struct Found {
    pub(super) error: LoadError,
    /// The name of the object that the manifests lack, if that is it.
    pub(super) lacks: Option<String>,
}

/// The errors in order of their places; of those that lack the same object the first, which tells how many others there are.
pub(super) fn errors(mut found: Vec<Found>) -> Vec<LoadError> {
    found.sort_by(|one, other| one.error.place.cmp(&other.error.place));
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for name in found.iter().filter_map(|found| found.lacks.clone()) {
        *places.entry(name).or_default() += 1;
    }
    let mut errors = Vec::new();
    for Found { mut error, lacks } in found {
        if let Some(name) = lacks {
            let Some(places) = places.remove(&name) else { continue };
            let others = match places - 1 {
                0 => String::new(),
                1 => "; one other place names it, too".to_owned(),
                others => format!("; {others} other places name it, too"),
            };
            // A slip with a suggestion needs no other.
            if places > 1 || !error.message.ends_with('?') {
                error.message.push_str(&format!("{others}; if the manifests call it otherwise: --alias {name}=OWN"));
            }
        }
        errors.push(error);
    }
    errors
}
