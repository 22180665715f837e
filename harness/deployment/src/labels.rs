//! Labels and annotations: maps from text to text, as the API server takes them.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// Reads a map of labels or annotations; an absent or empty one is an empty map.
///
/// # Errors
/// A value that is no text, such as `true` without quotes: the API server refuses the whole object then.
pub(super) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let texts = Option::<BTreeMap<String, Text>>::deserialize(deserializer)?;
    Ok(texts.unwrap_or_default().into_iter().map(|(name, Text(value))| (name, value)).collect())
}

/// A text that is no boolean and no number.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes, as the API server wants labels and annotations")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}
