//! Small helpers for texts of reports.

/// The text as one line of at most so many characters.
pub(crate) fn clip(text: &str, characters: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= characters {
        return line;
    }
    let mut clipped: String = line.chars().take(characters.saturating_sub(3)).collect();
    clipped.push_str("...");
    clipped
}

/// Words, separated by `separator`, filled into lines of `width` columns that begin with `indent`; lines after `limit` are counted.
pub(crate) fn fill(words: &[&str], separator: &str, indent: &str, width: usize, limit: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for (index, word) in words.iter().enumerate() {
        let last = index + 1 == words.len();
        let word = if last { (*word).to_owned() } else { format!("{word}{}", separator.trim_end()) };
        let empty = line.is_empty();
        if !empty && indent.len() + line.chars().count() + 1 + word.chars().count() > width {
            lines.push(format!("{indent}{line}"));
            line.clear();
            if lines.len() == limit {
                lines.push(format!("{indent}... and {} more in the json report", words.len() - index));
                return lines;
            }
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&word);
    }
    if !line.is_empty() {
        lines.push(format!("{indent}{line}"));
    }
    lines
}

/// `1 case`, `2 cases`.
pub(crate) fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_filled_into_lines_and_the_rest_is_counted() {
        let words = ["alpha", "beta", "gamma", "delta", "epsilon"];
        assert_eq!(fill(&words, ", ", "  ", 16, 9), ["  alpha, beta,", "  gamma, delta,", "  epsilon"]);
        assert_eq!(fill(&words, ", ", "  ", 16, 1), ["  alpha, beta,", "  ... and 3 more in the json report"]);
        assert_eq!(fill(&["too-long-for-it"], ", ", "", 4, 9), ["too-long-for-it"]);
        assert_eq!(fill(&[], ", ", "", 4, 9), [""; 0]);
    }

    #[test]
    fn clipped_texts_are_one_line_and_keep_whole_characters() {
        assert_eq!(clip("FATAL:  no\n entry", 80), "FATAL: no entry");
        assert_eq!(clip("ääääääää", 5), "ää...");
    }
}
