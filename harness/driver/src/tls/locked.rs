//! Versions of our own dependencies, for reports: read from the lock file this build was made with, so that they can't go stale.

const LOCK_FILE: &str = include_str!("../../../../Cargo.lock");

/// `name version` of a locked crate; the bare name if it is not there.
#[must_use]
pub fn locked(name: &str) -> String {
    let wanted = format!("name = \"{name}\"");
    let mut lines = LOCK_FILE.lines();
    while let Some(line) = lines.next() {
        if line == wanted {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
            return version.map_or_else(|| name.to_owned(), |version| format!("{name} {version}"));
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_has_a_version_and_an_unknown_name_has_none() {
        let rustls = locked("rustls");
        assert!(rustls.strip_prefix("rustls ").is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit())), "{rustls}");
        assert_eq!(locked("no-such-crate"), "no-such-crate");
    }
}
