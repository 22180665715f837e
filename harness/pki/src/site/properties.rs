//! What holds for any text that [`filter_pem`] is given. Property tests and a fuzz target of `harness/fuzz` call this with inputs of their
//! own making.

use super::filter_pem;

/// What is filtered once stays as it is, and holds blocks of the wanted type only: no other, such as a key, is left in it.
///
/// A header whose name begins with dashes is an exception to the first: Go writes it without the blanks that stood before it, and then takes
/// it for the boundary of a block itself.
///
/// # Panics
/// Where that does not hold.
pub fn filtered(kind: &str, text: &str) {
    let Ok(found) = filter_pem(kind, text) else { return };
    let (headers, boundaries): (Vec<_>, Vec<_>) =
        found.lines().filter(|line| line.starts_with("-----")).partition(|line| line.contains(": "));
    if headers.is_empty() {
        assert_eq!(filter_pem(kind, &found).as_deref(), Ok(found.as_str()), "filtered twice");
    }
    let begin = format!("-----BEGIN {kind}-----");
    for line in boundaries.into_iter().filter(|line| line.starts_with("-----BEGIN ")) {
        assert!(line.eq_ignore_ascii_case(&begin), "{line} among blocks of {kind}");
    }
}
