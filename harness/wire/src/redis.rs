//! Redis' first reply in plaintext (RESP2 and RESP3).

/// What a first reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    /// Anything but an error.
    Ok,
    /// A simple or bulk error: authentication is refused, or missing.
    Error,
    /// No type of RESP begins with this byte.
    Unreadable,
}

/// Names the reply that begins with this byte.
pub(super) fn reply(first: u8) -> Reply {
    match first {
        b'-' | b'!' => Reply::Error,
        b'+' | b':' | b'$' | b'*' | b'_' | b'#' | b',' | b'(' | b'=' | b'%' | b'~' | b'>' | b'|' => Reply::Ok,
        _ => Reply::Unreadable,
    }
}
