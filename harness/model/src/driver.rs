//! What is known of a client before it is used.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server::Service;

/// Clients that fail with the same kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// tokio-postgres over rustls: texts are those of rustls.
    Rustls,
    /// libpq itself, or psycopg2 over it: `text:` is asserted for these.
    Libpq,
    /// redis-rs over rustls: texts are those of rustls.
    RedisRs,
    /// redis-py over Python's `ssl`.
    RedisPy,
    /// Any other program behind the exec protocol.
    Other,
}

impl Family {
    /// As conditions on the axis `family` and reports name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::Libpq => "libpq",
            Self::RedisRs => "redis-rs",
            Self::RedisPy => "redis-py",
            Self::Other => "other",
        }
    }
}

/// A client and its versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DriverInfo {
    /// Name in scenarios: `rustls`, `libpq-17`, `psycopg2-2.9.12`, ...
    pub name: String,
    /// What it connects to.
    pub service: Service,
    /// How its texts read.
    pub family: Family,
    /// libpq's version as `PQlibVersion` gives it (170006 is 17.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub libpq: Option<u32>,
    /// Every version worth reporting, such as `psycopg2 2.9.12, libpq 17.9, OpenSSL 3.5.6`.
    pub version: String,
    /// The TLS library's version text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_library: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Family;

    #[test]
    fn a_family_has_the_same_name_in_conditions_and_in_reports() {
        for family in [Family::Rustls, Family::Libpq, Family::RedisRs, Family::RedisPy, Family::Other] {
            assert_eq!(serde_json::to_value(family).expect("a unit variant"), family.name());
        }
    }
}
