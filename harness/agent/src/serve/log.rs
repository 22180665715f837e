//! What the agent itself says, beside its answers.

use std::io::{self, Write as _};

/// Writes a line for `docker logs`.
pub(super) fn say(text: &str) {
    // Nobody is left to tell.
    let _ = writeln!(io::stderr(), "agent: {text}");
}
