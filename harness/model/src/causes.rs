//! An error as a person reads it.

use std::error::Error;

/// An error's text with those of its causes: `could not listen on 127.0.0.1: address in use`. A cause that the text quotes already isn't said
/// twice.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failed {
        #[error("could not read the list: {0}")]
        Quotes(#[source] io::Error),
        #[error("no case was read")]
        Hides(#[source] Box<Failed>),
    }

    #[test]
    fn every_cause_is_told_and_none_twice() {
        let quotes = Failed::Quotes(io::Error::other("it is a folder"));
        assert_eq!(with_causes(&quotes), "could not read the list: it is a folder");
        assert_eq!(with_causes(&Failed::Hides(Box::new(quotes))), "no case was read: could not read the list: it is a folder");
    }
}
