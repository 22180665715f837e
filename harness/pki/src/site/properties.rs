//! What holds for any text that [`filter_pem`] is given. Property tests and a fuzz target of `harness/fuzz` call this with inputs of their
//! own making.

use super::filter_pem;

/// What is filtered once stays as it is, and holds blocks of the wanted type only: no other, such as a key, is left in it.
///
/// # Panics
/// Where that does not hold.
pub fn filtered(kind: &str, text: &str) {
    let Ok(found) = filter_pem(kind, text) else { return };
    assert_eq!(filter_pem(kind, &found).as_deref(), Ok(found.as_str()), "filtered twice");
    let begin = format!("-----BEGIN {kind}-----");
    // With the blank: `-----BEGIN:` in a block is one of its headers, for Go too.
    for line in found.lines().filter(|line| line.starts_with("-----BEGIN ")) {
        assert!(line.eq_ignore_ascii_case(&begin), "{line} among blocks of {kind}");
    }
}
