//! The time that a program gets beyond what a request asks for.

use std::time::Duration;

/// What a program gets beyond the request's own limit, before it counts as hung. Its own answer `timed-out` must have time to arrive,
/// also on a busy machine.
pub(super) const ANSWER_GRACE: Duration = Duration::from_secs(3);

/// How long a program may take to end once its standard input is closed, and to close one session.
pub(super) const CLOSE_LIMIT: Duration = Duration::from_secs(5);
