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
const APPLICATION_DATA: u8 = 23;

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
    /// A record of so many bytes of application data, as which TLS 1.3 sends all that it encrypts: nothing more is to be read.
    Encrypted(usize),
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
    /// [`Item::Encrypted`] or [`Item::End`] was told: what comes now is dropped.
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
                self.position = Position::Skip(length);
                return Some(Item::ChangeCipherSpec);
            }
            APPLICATION_DATA => {
                self.position = Position::End;
                return Some(Item::Encrypted(length));
            }
            // An alert that is encrypted (its length tells), an empty handshake record (no sender makes one), or no TLS.
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
        let length = match message[..] {
            [_, high, middle, low, ..] => u32::from_be_bytes([0, high, middle, low]) as usize,
            _ => return None,
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of TLS 1.x with so many bytes that are all zero.
    fn record(kind: u8, length: usize) -> Vec<u8> {
        let [high, low] = u16::try_from(length).expect("a record's length").to_be_bytes();
        [&[kind, 3, 3, high, low][..], &vec![0; length]].concat()
    }

    fn items(side: Side, stream: &[u8]) -> Vec<Item> {
        let mut reader = TlsReader::new(side);
        let mut rest = stream;
        std::iter::from_fn(|| reader.next(&mut rest)).collect()
    }

    const UNKNOWN_CA: [u8; 7] = [ALERT, 3, 3, 0, 2, 2, 48];

    /// A ServerHello of so many bytes, most of them an extension that nobody reads.
    fn hello(length: usize) -> Vec<u8> {
        let head = [&[3, 3][..], &[7; 32], &[0, 0x13, 1, 0]].concat();
        let filling = length - head.len() - 6;
        let vector = |length: usize| u16::try_from(length).expect("an extension's length").to_be_bytes();
        let body = [&head[..], &vector(filling + 4), &[0xfe, 0xfe], &vector(filling), &vec![0; filling]].concat();
        assert_eq!(body.len(), length);
        let [_, length @ ..] = u32::try_from(length).expect("three bytes").to_be_bytes();
        let message = [&[SERVER_HELLO][..], &length, &body].concat();
        message
            .chunks(1 << 14)
            .flat_map(|part| {
                let [high, low] = u16::try_from(part.len()).expect("a record's length").to_be_bytes();
                [&[HANDSHAKE, 3, 3, high, low][..], part].concat()
            })
            .collect()
    }

    #[test]
    fn a_record_of_the_longest_length_is_read_and_a_longer_one_is_no_tls() {
        // RFC 5246 section 6.2.3: 2^14 + 2048 bytes.
        let longest = [record(HANDSHAKE, 18_432), UNKNOWN_CA.to_vec()].concat();
        assert_eq!(items(Side::Server, &longest), [Item::Alert(Alert::UnknownCa)]);
        let longer = [record(HANDSHAKE, 18_433), UNKNOWN_CA.to_vec()].concat();
        assert_eq!(items(Side::Server, &longer), [Item::End]);
    }

    #[test]
    fn a_record_of_another_major_version_is_no_tls() {
        let mut stream = UNKNOWN_CA.to_vec();
        stream[1] = 2;
        assert_eq!(items(Side::Client, &stream), [Item::End]);
    }

    #[test]
    fn an_empty_handshake_record_and_an_encrypted_alert_end_what_is_readable() {
        assert_eq!(items(Side::Client, &[&record(HANDSHAKE, 0)[..], &UNKNOWN_CA].concat()), [Item::End]);
        assert_eq!(items(Side::Client, &[&record(ALERT, 26)[..], &UNKNOWN_CA].concat()), [Item::End]);
        assert_eq!(items(Side::Client, &[&record(ALERT, 1)[..], &UNKNOWN_CA].concat()), [Item::End]);
    }

    #[test]
    fn application_data_is_told_with_its_length_and_ends_what_is_readable() {
        assert_eq!(items(Side::Client, &[&record(APPLICATION_DATA, 53)[..], &UNKNOWN_CA].concat()), [Item::Encrypted(53)]);
    }

    #[test]
    fn a_change_of_the_cipher_is_passed_over_whatever_its_length() {
        for length in [0, 1, 3] {
            let stream = [&record(CHANGE_CIPHER_SPEC, length)[..], &UNKNOWN_CA].concat();
            assert_eq!(items(Side::Client, &stream), [Item::ChangeCipherSpec, Item::Alert(Alert::UnknownCa)], "{length}");
        }
    }

    #[test]
    fn a_hello_of_the_longest_length_is_read_and_a_longer_one_is_passed_over() {
        let chosen = || Item::ServerHello(ServerHello::Chosen { version: Some(model::connect::TlsVersion::V1_2), alpn: None });
        for (length, found) in [(44, vec![chosen()]), (2000, vec![chosen()]), (32 * 1024, vec![chosen()]), (32 * 1024 + 1, Vec::new())] {
            let expected: Vec<Item> = found.into_iter().chain([Item::Alert(Alert::UnknownCa)]).collect();
            let stream = [&hello(length)[..], &UNKNOWN_CA].concat();
            assert_eq!(items(Side::Server, &stream), expected, "{length} bytes");
        }
    }
}
