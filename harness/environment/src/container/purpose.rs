//! What a container is for: where files are in it, and which other server can have it afterwards.

/// What a container is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// One PostgreSQL: files are where CloudNativePG has them.
    Postgres,
    /// One Redis: there is no operator whose paths it could have.
    Redis,
    /// The gateway of an installation.
    Gateway,
    /// All other gateways, so that servers see one address.
    Gateways,
}
