//! Command lines that are printed for a person to paste.

/// A word of a shell's command line, in quotes where the shell would take it apart or put something in its place.
#[must_use]
pub fn in_shell(word: &str) -> String {
    // `=` at the beginning stands for a program's path in some shells.
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "/.:_-@%+,=".contains(character);
    if !word.is_empty() && !word.starts_with('=') && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!((in_shell("/a/b-c_1.crt"), in_shell("a/b:c=d,e=f-1.2")), ("/a/b-c_1.crt".to_owned(), "a/b:c=d,e=f-1.2".to_owned()));
        assert_eq!((in_shell("=ls"), in_shell("")), ("'=ls'".to_owned(), "''".to_owned()));
        assert_eq!(in_shell("user='a b' c"), "'user='\\''a b'\\'' c'");
        for word in ["a'b \"$c\\", "~/a", "a*", "{a,b}", "a;b", "#a", "!a", "a\nb", "\u{e4}"] {
            let output = std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", in_shell(word))).output();
            assert_eq!(output.expect("sh").stdout, word.as_bytes(), "{word:?}");
        }
    }
}
