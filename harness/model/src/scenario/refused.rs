//! The classes of refusal that a scenario file expects, in rows of steps and of timelines alike.

use std::fmt;

use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::refusal::Refusal;

/// One refusal class or several.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum RefusedExpect {
    /// The refusal must be of exactly this class.
    One(Refusal),
    /// The refusal must be of one of these classes.
    AnyOf(Vec<Refusal>),
}

impl RefusedExpect {
    /// The classes that satisfy it.
    #[must_use]
    pub fn classes(&self) -> &[Refusal] {
        match self {
            Self::One(refusal) => std::slice::from_ref(refusal),
            Self::AnyOf(refusals) => refusals,
        }
    }
}

impl<'de> Deserialize<'de> for RefusedExpect {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RefusedVisitor;
        impl<'de> Visitor<'de> for RefusedVisitor {
            type Value = RefusedExpect;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a refusal such as `{alert: unknown-ca}`, or a list of them")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RefusedExpect, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(RefusedExpect::AnyOf)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RefusedExpect, A::Error> {
                Refusal::deserialize(MapAccessDeserializer::new(map)).map(RefusedExpect::One)
            }
        }
        deserializer.deserialize_any(RefusedVisitor)
    }
}
