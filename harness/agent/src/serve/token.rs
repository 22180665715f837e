//! What tells the requests of an agent's own run from all others.

use std::fmt;

/// A token of no characters: everybody would have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an agent's token must not be empty")]
pub struct EmptyToken;

/// The run's secret, which every request must give.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token of this text.
    ///
    /// # Errors
    /// [`EmptyToken`].
    pub fn new(text: impl Into<String>) -> Result<Self, EmptyToken> {
        let text = text.into();
        if text.is_empty() { Err(EmptyToken) } else { Ok(Self(text)) }
    }

    /// Whether it is this one. Takes as long for any text of its length.
    pub(super) fn is(&self, text: &str) -> bool {
        let difference = self.0.bytes().zip(text.bytes()).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs));
        self.0.len() == text.len() && difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token")
    }
}
