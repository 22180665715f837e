//! What can't be had here, which is no failure where a case only wants it.

#[cfg(feature = "container")]
use super::ImageError;

/// A server's or a gateway's program, or its image, is not there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotInstalled {
    /// No such program on this machine.
    #[error("{product} is not installed: {cost}")]
    Program {
        /// Such as `PostgreSQL 17`.
        product: String,
        /// What its absence costs, and what brings it.
        cost: String,
    },
    /// It is there, and not for this user.
    #[error("{product} can't be used here: {cost}")]
    Closed {
        /// Such as `PostgreSQL 17`.
        product: String,
        /// What that costs, what is closed, and what opens it.
        cost: String,
    },
    /// No image to run it from.
    #[cfg(feature = "container")]
    #[error(transparent)]
    Image(#[from] ImageError),
}
