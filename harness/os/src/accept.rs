//! Accepting connections where descriptors may run out.

use std::time::Duration;

/// The wait after a failed accept(2), which would fail again at once: descriptors become free when connections end.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(5);
