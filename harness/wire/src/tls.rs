//! One direction of a TLS stream, read along as far as it is in the clear.
//!
//! Records may arrive byte by byte, and a hello may be spread over several records (RFC 8446 section 5.1).

use super::bytes::{collect, skip};
use super::hello::{self, ServerHello};
use model::refusal::Alert;
use model::wire::{ClientHello, Side};

/// Content types, RFC 8446 section 5.1.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;

/// Handshake types, RFC 8446 section 4.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;

/// Content type (one byte), version (two) and length (two) before every record.
const RECORD_HEADER: usize = 5;
/// Type (one byte) and length (three) before every handshake message.
const MESSAGE_HEADER: usize = 4;
/// The longest record that TLS 1.2 allows (RFC 5246 section 6.2.3); a longer one is no TLS.
const MAX_RECORD: usize = (1 << 14) + 2048;
/// A longer hello is not read. Those of OpenSSL and rustls, post-quantum key shares included, stay below 2 KiB.
const MAX_HELLO: usize = 32 * 1024;

/// Something readable in a TLS stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// The client's first hello.
    ClientHello(ClientHello),
    /// A hello of the server, or its request for another one of the client.
    ServerHello(ServerHello),
    /// An alert of two bytes: in the clear, unless a ChangeCipherSpec came before it.
    Alert(Alert),
    /// Up to TLS 1.2, all that follows is encrypted; TLS 1.3 sends it for show.
    ChangeCipherSpec,
    /// Encrypted, or no TLS: nothing more is to be read.
    End,
}

/// Where in a record the stream stands.
#[derive(Debug)]
enum Position {
    /// Before or in the five bytes of a record's header.
    Header,
    /// That many bytes of a handshake record are left.
    Handshake(usize),
    /// Before or in the two bytes of an alert.
    Alert,
    /// That many bytes of no interest are left.
    Skip(usize),
    /// [`Item::End`] was told: what comes now is dropped.
    End,
}

/// Reads the records that one side sends, from the first byte of its TLS stream on.
#[derive(Debug)]
pub(super) struct TlsReader {
    /// The handshake type to report: ClientHello or ServerHello.
    wanted: u8,
    /// Whether that hello is still to come.
    waiting: bool,
    position: Position,
    /// The record header or the alert so far.
    small: Vec<u8>,
    /// The handshake message so far, across records.
    message: Vec<u8>,
}

impl TlsReader {
    /// Reads what `side` sends.
    pub(super) fn new(side: Side) -> Self {
        let wanted = match side {
            Side::Client => CLIENT_HELLO,
            Side::Server => SERVER_HELLO,
        };
        Self { wanted, waiting: true, position: Position::Header, small: Vec::new(), message: Vec::new() }
    }

    /// Reads from the front of `input` up to the next thing worth telling; `None` when `input` is used up.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Option<Item> {
        while !input.is_empty() {
            let item = match &mut self.position {
                Position::Header => collect(&mut self.small, RECORD_HEADER, input).then(|| self.record()).flatten(),
                Position::Alert => collect(&mut self.small, 2, input).then(|| self.alert()),
                Position::Handshake(left) => {
                    let mut part = &input[..(*left).min(input.len())];
                    let before = part.len();
                    let item = if self.waiting {
                        next_hello(&mut self.message, self.wanted, &mut self.waiting, &mut part)
                    } else {
                        part = &[];
                        None
                    };
                    let mut used = before - part.len();
                    *left -= used;
                    if *left == 0 {
                        self.position = Position::Header;
                    }
                    skip(&mut used, input);
                    item
                }
                Position::Skip(left) => {
                    skip(left, input);
                    if *left == 0 {
                        self.position = Position::Header;
                    }
                    None
                }
                Position::End => {
                    *input = &[];
                    None
                }
            };
            if item.is_some() {
                return item;
            }
        }
        None
    }

    /// A record header is complete: what follows it?
    fn record(&mut self) -> Option<Item> {
        let (kind, major, length) = match self.small[..] {
            [kind, major, _, high, low] => (kind, major, usize::from(u16::from_be_bytes([high, low]))),
            _ => (0, 0, 0),
        };
        self.small.clear();
        if major != 3 || length > MAX_RECORD {
            return Some(self.end());
        }
        match kind {
            HANDSHAKE if length > 0 => self.position = Position::Handshake(length),
            ALERT if length == 2 => self.position = Position::Alert,
            CHANGE_CIPHER_SPEC => {
                self.position = if length > 0 { Position::Skip(length) } else { Position::Header };
                return Some(Item::ChangeCipherSpec);
            }
            // Application data, an alert that is encrypted (its length tells), an empty handshake record (no sender makes one), or no TLS.
            _ => return Some(self.end()),
        }
        None
    }

    /// Both bytes of an alert are there: level and description.
    fn alert(&mut self) -> Item {
        let code = self.small.last().copied().unwrap_or_default();
        self.small.clear();
        self.position = Position::Header;
        Item::Alert(Alert::from_code(code))
    }

    fn end(&mut self) -> Item {
        self.position = Position::End;
        Item::End
    }
}

/// Reads handshake messages from `part` until the wanted hello is complete.
fn next_hello(message: &mut Vec<u8>, wanted: u8, waiting: &mut bool, part: &mut &[u8]) -> Option<Item> {
    while !part.is_empty() {
        if !collect(message, MESSAGE_HEADER, part) {
            return None;
        }
        let length = message.get(1..MESSAGE_HEADER).unwrap_or_default().iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        if length > MAX_HELLO {
            *waiting = false;
            *part = &[];
            return None;
        }
        if !collect(message, MESSAGE_HEADER + length, part) {
            return None;
        }
        let whole = std::mem::take(message);
        let (&kind, rest) = whole.split_first()?;
        if kind != wanted {
            continue;
        }
        let body = rest.get(MESSAGE_HEADER - 1..).unwrap_or_default();
        let item = if wanted == CLIENT_HELLO {
            hello::client_hello(body).map(Item::ClientHello)
        } else {
            hello::server_hello(body).map(Item::ServerHello)
        };
        *waiting = item == Some(Item::ServerHello(ServerHello::Retry));
        return item;
    }
    None
}
