//! `off`, `on`, `no` and their like: texts to a reader, booleans to YAML 1.1 where they stand without quotes.
//!
//! Which word it was is lost once the file is read, so that `tls-auth-clients: no` would reach a server as `false`.

/// The words that YAML 1.1 takes for booleans (<https://yaml.org/type/bool.html>) beside `true` and `false`, in lower case.
const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];

/// The boolean word that stands without quotes at this line and column of a text, both from 1.
pub(crate) fn word_at(text: &str, place: (u64, u64)) -> Option<String> {
    word(&rest_of_line(text, place)?)
}

/// The same, or where a key stands there, such a word as its value: some errors have the place of the key.
pub(crate) fn word_at_or_behind_key(text: &str, place: (u64, u64)) -> Option<String> {
    let rest = rest_of_line(text, place)?;
    word(&rest).or_else(|| word(rest.split_once(": ")?.1.trim_start()))
}

fn rest_of_line(text: &str, (line, column): (u64, u64)) -> Option<String> {
    let line = text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?)?;
    Some(line.chars().skip(usize::try_from(column).ok()?.checked_sub(1)?).collect())
}

fn word(rest: &str) -> Option<String> {
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    WORDS.contains(&word.to_lowercase().as_str()).then_some(word)
}

/// What to add where a text came to a boolean's name and is not known: the file may have had another word.
#[must_use]
pub fn hint(text: &str) -> &'static str {
    if matches!(text, "true" | "false") { " (an unquoted off, no, on or yes is a boolean in YAML: quote it, as in \"off\")" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_without_quotes_are_found_at_their_place() {
        let text = "a: off\nb: {c: No, d: \"on\"}\né: yes # off\ne: false\nf: offer\n";
        let at = |line, column| word_at(text, (line, column));
        assert_eq!(at(1, 4).as_deref(), Some("off"));
        assert_eq!(at(2, 8).as_deref(), Some("No"));
        assert_eq!(at(2, 15), None, "it is quoted");
        assert_eq!(at(3, 4).as_deref(), Some("yes"), "columns count characters");
        assert_eq!(at(4, 4), None);
        assert_eq!(at(5, 4), None);
        assert_eq!(at(0, 0), None);
        assert_eq!(at(9, 1), None);
        assert_eq!(at(1, 1), None);
        assert_eq!(word_at_or_behind_key(text, (1, 1)).as_deref(), Some("off"));
        assert_eq!(word_at_or_behind_key(text, (1, 4)).as_deref(), Some("off"));
        assert_eq!(word_at_or_behind_key(text, (4, 1)), None);
    }
}
