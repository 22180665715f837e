//! Scalars and texts of YAML files, with their places.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_saphyr::{Location, Spanned};

/// A value as it stands in a file: of a variant without fields its name.
#[must_use]
pub fn name_of<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        Ok(other) => other.to_string(),
        Err(error) => error.to_string(),
    }
}

/// A YAML scalar that a scenario may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Scalar {
    /// `true` or `false`, unquoted.
    Bool(bool),
    /// A whole number of 64 bits, unquoted.
    Integer(i64),
    /// Anything else; fractions must be quoted.
    Text(String),
}

impl Scalar {
    /// As it stands in a case's id.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Integer(value) => Cow::Owned(value.to_string()),
            Self::Text(value) => Cow::Borrowed(value),
        }
    }
}

struct ScalarVisitor;

impl Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a whole number, true or false")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
        Ok(Scalar::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Scalar, E> {
        i64::try_from(value).map(Scalar::Integer).map_err(|_| E::custom(format!("{value} is too large")))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scalar, E> {
        Err(E::custom(format!("{value} is no whole number: quote it if a text is meant")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Scalar, E> {
        Ok(Scalar::Text(value))
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

/// One value or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// A single value, without brackets.
    One(Scalar),
    /// A list of values, of which one must match.
    Many(Vec<Scalar>),
}

impl OneOrMany {
    /// Its values as text.
    pub fn texts(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let values = match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        };
        values.iter().map(Scalar::text)
    }
}

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor;
        impl<'de> Visitor<'de> for OneOrManyVisitor {
            type Value = OneOrMany;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<OneOrMany, E> {
                ScalarVisitor.visit_bool(value).map(OneOrMany::One)
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<OneOrMany, E> {
                ScalarVisitor.visit_i64(value).map(OneOrMany::One)
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<OneOrMany, E> {
                ScalarVisitor.visit_u64(value).map(OneOrMany::One)
            }

            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<OneOrMany, E> {
                ScalarVisitor.visit_str(value).map(OneOrMany::One)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<OneOrMany, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

/// A scalar with its place in the file; may hold `${axis}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text(pub Spanned<Scalar>);

impl Text {
    /// A text that stands in no file.
    #[must_use]
    pub fn synthetic(text: impl Into<String>) -> Self {
        Self(Spanned { value: Scalar::Text(text.into()), referenced: Location::UNKNOWN, defined: Location::UNKNOWN })
    }

    /// The text as written.
    #[must_use]
    pub fn raw(&self) -> String {
        self.0.value.text().into_owned()
    }

    /// Line and column, from 1; 0 where it stands in no file.
    #[must_use]
    pub fn place(&self) -> (u64, u64) {
        (self.0.referenced.line(), self.0.referenced.column())
    }
}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Scalar::json_schema(generator)
    }
}

/// One text or several.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Texts(
    /// In the file's order.
    #[schemars(with = "OneOrMany")]
    pub Vec<Text>,
);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // One text alone has its place, too.
        let Spanned { value, referenced, defined } = Spanned::<RawTexts>::deserialize(deserializer)?;
        Ok(Self(match value {
            RawTexts::One(value) => vec![Text(Spanned { value: Scalar::Text(value), referenced, defined })],
            RawTexts::Many(texts) => texts,
        }))
    }
}

enum RawTexts {
    One(String),
    Many(Vec<Text>),
}

impl<'de> Deserialize<'de> for RawTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;
        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = RawTexts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of texts")
            }

            fn visit_str<E>(self, value: &str) -> Result<RawTexts, E> {
                Ok(RawTexts::One(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawTexts, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(RawTexts::Many)
            }
        }
        deserializer.deserialize_any(TextsVisitor)
    }
}
