//! Conditions on a case's matrix values.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::text::OneOrMany;

/// Axis name to the values it may have: a value, a glob (`libpq-*`), a negation (`"!rustls"`) or a comparison (`">=17"`).
/// All axes must match; an axis matches if any of its alternatives does, a negation only if the value is not it.
pub type When = BTreeMap<String, OneOrMany>;

/// Whether one alternative matches an axis value.
#[must_use]
pub fn alternative_matches(pattern: &str, value: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix('!') {
        return !alternative_matches(rest.trim(), value);
    }
    for (operator, holds) in [(">=", i64::ge as fn(&i64, &i64) -> bool), ("<=", i64::le), (">", i64::gt), ("<", i64::lt)] {
        if let Some(bound) = pattern.strip_prefix(operator) {
            return match (value.parse::<i64>(), bound.trim().parse::<i64>()) {
                (Ok(value), Ok(bound)) => holds(&value, &bound),
                _ => false,
            };
        }
    }
    match pattern.split_once('*') {
        None => pattern == value,
        Some((head, rest)) => value.strip_prefix(head).is_some_and(|value| star_matches(rest, value)),
    }
}

/// The rest of a pattern after a `*`, which takes any number of characters. Values are short names: no glob library is needed for them.
fn star_matches(rest: &str, value: &str) -> bool {
    match rest.split_once('*') {
        None => value.ends_with(rest),
        Some((literal, rest)) => value.match_indices(literal).any(|(at, _)| star_matches(rest, &value[at + literal.len()..])),
    }
}

/// Whether a condition holds for a case's values. A value that the case doesn't have never matches, except against a negation.
#[must_use]
pub fn holds<'a>(when: &When, value_of: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> bool {
    when.iter().all(|(axis, alternatives)| any_matches(alternatives, &value_of(axis).unwrap_or_default()))
}

/// Whether one of the alternatives matches an axis value.
#[must_use]
pub fn any_matches(alternatives: &OneOrMany, value: &str) -> bool {
    alternatives.texts().any(|pattern| alternative_matches(&pattern, value))
}

#[cfg(test)]
mod tests {
    use super::alternative_matches;

    #[test]
    fn globs_negations_and_comparisons_match_as_documented() {
        assert!(alternative_matches("libpq-*", "libpq-17"));
        assert!(!alternative_matches("libpq-*", "rustls"));
        assert!(alternative_matches("*-2.9.*", "psycopg2-2.9.12"));
        assert!(!alternative_matches("*-2.9.1", "psycopg2-2.9.12"));
        assert!(alternative_matches("!rustls", "libpq-17"));
        assert!(!alternative_matches("!rustls", "rustls"));
        assert!(alternative_matches(">=17", "18"));
        assert!(!alternative_matches(">=17", "15"));
        assert!(!alternative_matches(">=17", ""));
        assert!(alternative_matches("<17", "15"));
    }
}
