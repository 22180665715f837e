//! Names that nothing has: the nearest spelling among those that there are, else all of them.

use std::fmt;

/// How many letters may differ between a name and the one that is suggested for it.
const NEAR: usize = 3;

/// `: did you mean ...?` where a known name is near, by Levenshtein distance; else nothing.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        .map(|candidate| (strsim::levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, _)| *distance <= NEAR)
        .map(|(_, candidate)| format!(": did you mean `{candidate}`?"))
        .unwrap_or_default()
}

/// A name of which there is nothing, with the nearest known one, else all of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownName {
    /// What the name should be of: `identity`, `driver`.
    kind: &'static str,
    name: String,
    known: Vec<String>,
}

impl UnknownName {
    /// That there is no `name` among the `kind`s that are `known`.
    pub fn new<'a, N: AsRef<str> + ?Sized + 'a>(kind: &'static str, name: &str, known: impl Iterator<Item = &'a N>) -> Self {
        Self { kind, name: name.to_owned(), known: known.map(|name| name.as_ref().to_owned()).collect() }
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, known } = self;
        let near = nearest(name, known.iter().map(String::as_str));
        match (near.is_empty(), known.is_empty()) {
            (false, _) => write!(f, "unknown {kind} `{name}`{near}"),
            (true, true) => write!(f, "unknown {kind} `{name}`: there is none"),
            (true, false) => write!(f, "unknown {kind} `{name}`: it is not one of {}", known.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_and_of_two_as_near_the_first_by_name() {
        assert_eq!(nearest("vreify-ca", ["verify-full", "verify-ca"].into_iter()), ": did you mean `verify-ca`?");
        assert_eq!(nearest("libpq-19", ["libpq-18", "libpq-17"].into_iter()), ": did you mean `libpq-17`?");
        assert_eq!(nearest("rustls", ["libpq-18"].into_iter()), "");
    }

    #[test]
    fn where_nothing_is_near_all_names_are_listed() {
        let known = ["app".to_owned(), "expired".to_owned()];
        assert_eq!(
            UnknownName::new("identity", "revoked-by-crl", known.iter()).to_string(),
            "unknown identity `revoked-by-crl`: it is not one of app, expired"
        );
        assert_eq!(UnknownName::new("crl", "all", Vec::<String>::new().iter()).to_string(), "unknown crl `all`: there is none");
    }
}
