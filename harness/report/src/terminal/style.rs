//! Colour, where it is wanted.

use std::io::IsTerminal as _;

use comfy_table::Table;

/// Columns of output that goes to no terminal.
const UNKNOWN_WIDTH: u16 = 120;
/// Narrower terminals get lines that wrap.
const NARROWEST: u16 = 60;
/// Lines are no longer than that on a wider terminal, and there is no bar: each step would draw all of its columns anew.
const WIDEST: u16 = 1000;

/// How a reporter writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Whether ANSI escape codes colour the text.
    pub color: bool,
    /// A progress bar on the terminal; otherwise plain lines.
    pub progress: bool,
    /// Columns of a line, at least 60; what is longer wraps or is clipped.
    pub width: u16,
}

impl Style {
    /// Standard error's: colour and progress only on a terminal, and no colour where `NO_COLOR` is set (no-color.org).
    #[must_use]
    pub fn of_stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let width = if terminal { Table::new().use_stderr().width() } else { None };
        Self { color: terminal && !dumb && !set("NO_COLOR"), ..Self::of_width(width, terminal && !dumb) }
    }

    /// No colour, and a bar where a terminal takes one and has so many columns that it can be drawn often.
    fn of_width(width: Option<u16>, takes_bar: bool) -> Self {
        let width = width.unwrap_or(UNKNOWN_WIDTH);
        Self { color: false, progress: takes_bar && width <= WIDEST, width: width.clamp(NARROWEST, WIDEST) }
    }

    /// No colour, no progress.
    #[must_use]
    pub fn plain(width: u16) -> Self {
        Self { color: false, progress: false, width: width.max(NARROWEST) }
    }

    pub(super) fn paint(self, emphasis: Emphasis, text: &str) -> String {
        let code = match emphasis {
            _ if !self.color => return text.to_owned(),
            Emphasis::Good => "32",
            Emphasis::Bad => "31;1",
            Emphasis::Odd => "33",
            Emphasis::Head => "1",
            Emphasis::Faint => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// What a colour means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Emphasis {
    Good,
    Bad,
    Odd,
    Head,
    Faint,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_of_any_width_gets_lines_that_can_be_read_and_a_bar_that_can_be_drawn() {
        for (width, takes_bar, progress, columns) in [
            (None, false, false, UNKNOWN_WIDTH),
            (None, true, true, UNKNOWN_WIDTH),
            (Some(0), true, true, NARROWEST),
            (Some(80), true, true, 80),
            (Some(80), false, false, 80),
            (Some(1000), true, true, 1000),
            (Some(u16::MAX), true, false, WIDEST),
        ] {
            assert_eq!(Style::of_width(width, takes_bar), Style { color: false, progress, width: columns }, "{width:?} {takes_bar}");
        }
    }
}
