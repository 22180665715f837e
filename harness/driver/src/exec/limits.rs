//! The time that a program gets beyond what a request asks for.

use std::time::Duration;

/// How long a client program is waited for, apart from the limits of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramLimits {
    /// From its start to the end of its greeting.
    pub hello: Duration,
    /// What it gets for an answer beyond the request's own limit, before it counts as hung.
    pub grace: Duration,
    /// Until it has ended once its standard input is closed, or has closed one session.
    pub close: Duration,
    /// Until it has ended after its stop signal; then it is killed.
    pub stop: Duration,
}

impl ProgramLimits {
    /// Where the user gives a limit: a program may take that long to greet, and nothing else takes longer either.
    #[must_use]
    pub fn within(limit: Duration) -> Self {
        let Self { hello: _, grace, close, stop } = Self::default();
        Self { hello: limit, grace: grace.min(limit), close: close.min(limit), stop: stop.min(limit) }
    }
}

impl Default for ProgramLimits {
    fn default() -> Self {
        Self {
            // An interpreter that loads a TLS library on a busy machine takes a while.
            hello: Duration::from_secs(20),
            // Its own answer `timed-out` must have time to arrive, also on a busy machine.
            grace: Duration::from_secs(3),
            close: Duration::from_secs(5),
            stop: Duration::from_secs(2),
        }
    }
}
