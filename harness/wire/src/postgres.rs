//! PostgreSQL's start of a connection, as far as it is in plaintext.
//!
//! PostgreSQL manual, "Message Flow" and "Message Formats" (protocol 3.x).

use super::bytes::{collect, skip};

/// Length and code: the head of every packet that a client starts a connection with.
pub(super) const OPENING: usize = 8;
/// The type (one byte) and the length (four) that every message after the first begins with.
const MESSAGE_HEADER: usize = 5;
/// libpq reads no longer message before authentication; a longer one is of another protocol, or an error text of protocol 2.
const MAX_MESSAGE: usize = 30_000;

/// What a client's first packet asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// SSLRequest: the server answers `S`, `N`, or an ErrorResponse.
    Ssl,
    /// GSSENCRequest: the server answers `G`, `N`, or an ErrorResponse.
    Gss,
    /// StartupMessage, CancelRequest, or no PostgreSQL.
    Other,
}

/// Names the packet that begins with these bytes.
pub(super) fn opening(head: &[u8]) -> Opening {
    match head {
        [0, 0, 0, 8, code @ ..] if code == 80_877_103_u32.to_be_bytes() => Opening::Ssl,
        [0, 0, 0, 8, code @ ..] if code == 80_877_104_u32.to_be_bytes() => Opening::Gss,
        _ => Opening::Other,
    }
}

/// How the server answered in plaintext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// AuthenticationOk: the client is let in.
    Ok,
    /// ErrorResponse, with its SQLSTATE if it has one.
    Error(Option<String>),
    /// Something that a PostgreSQL server does not send before authentication is over.
    Unreadable,
}

/// Reads the server's messages until it lets the client in or refuses it.
#[derive(Debug, Default)]
pub(super) struct AnswerReader {
    message: Vec<u8>,
    skipping: usize,
}

impl AnswerReader {
    /// Reads from the front of `input` up to the answer; `None` when `input` is used up.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<Answer> {
        while !input.is_empty() {
            if self.skipping > 0 {
                skip(&mut self.skipping, input);
                continue;
            }
            if !collect(&mut self.message, MESSAGE_HEADER, input) {
                return None;
            }
            let (kind, length) = match self.message[..] {
                [kind, a, b, c, d, ..] => (kind, usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX)),
                _ => return None,
            };
            // The length counts itself.
            let body = match length.checked_sub(MESSAGE_HEADER - 1) {
                Some(body) if body <= MAX_MESSAGE => body,
                // A server that could not even fork says `E` and a text (protocol 2).
                _ if kind == b'E' => return Some(Answer::Error(None)),
                _ => return Some(Answer::Unreadable),
            };
            match kind {
                b'E' | b'R' => {
                    if !collect(&mut self.message, MESSAGE_HEADER + body, input) {
                        return None;
                    }
                    let message = std::mem::take(&mut self.message);
                    let content = message.get(MESSAGE_HEADER..).unwrap_or_default();
                    if kind == b'E' {
                        return Some(Answer::Error(sqlstate(content)));
                    }
                    // Any other number asks for a password, GSS or SASL.
                    if content == [0, 0, 0, 0] {
                        return Some(Answer::Ok);
                    }
                }
                // NoticeResponse, NegotiateProtocolVersion.
                b'N' | b'v' => {
                    self.message.clear();
                    self.skipping = body;
                }
                _ => return Some(Answer::Unreadable),
            }
        }
        None
    }
}

/// The `C` field of an ErrorResponse: each field is a letter and a text that ends with a zero byte.
fn sqlstate(content: &[u8]) -> Option<String> {
    let code = content.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"))?;
    Some(String::from_utf8_lossy(code).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_of_eight_bytes_is_a_request_for_encryption_by_its_code_only() {
        // PostgreSQL manual, "Message Formats": SSLRequest 1234.5679, GSSENCRequest 1234.5680.
        assert_eq!(opening(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]), Opening::Ssl);
        assert_eq!(opening(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30]), Opening::Gss);
        assert_eq!(opening(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x31]), Opening::Other);
        assert_eq!(opening(&[0, 0, 0, 9, 0x04, 0xd2, 0x16, 0x2f]), Opening::Other);
    }

    #[test]
    fn a_length_that_no_message_has_is_an_error_text_of_protocol_2_after_e_alone() {
        let answer = |message: &[u8]| AnswerReader::default().next(&mut &message[..]);
        assert_eq!(answer(b"Ecould not fork"), Some(Answer::Error(None)));
        assert_eq!(answer(b"Rcould not fork"), Some(Answer::Unreadable));
        assert_eq!(answer(&[b'N', 0, 0, 0, 3]), Some(Answer::Unreadable), "a length counts its own four bytes");
        // libpq's limit.
        let notice = |length: u32| [&b"N"[..], &(length + 4).to_be_bytes()].concat();
        assert_eq!(answer(&notice(30_000)), None, "it may still go on");
        assert_eq!(answer(&notice(30_001)), Some(Answer::Unreadable));
    }
}
