//! What holds for any bytes that two sides send. Property tests and the fuzz targets of `harness/fuzz` call these functions with inputs of
//! their own making; each panics where its property does not hold.

use model::refusal::Alert;
use model::server::Service;
use model::wire::{Side, WireConnection};

use super::hello::{self, ServerHello};
use super::postgres::{Answer, AnswerReader};
use super::tls::{HANDSHAKE, Item, TlsReader};
use super::watch::Watch;

/// What each side sent, in order.
pub type Conversation = Vec<(Side, Vec<u8>)>;

/// Reads an input of the fuzzer as a conversation: one byte for the service, then for each segment one byte for the side, two for the
/// length (the highest first), and the bytes. A segment that is cut short holds what is there.
#[must_use]
pub fn decode(input: &[u8]) -> (Service, Conversation) {
    let (service, mut rest) = input.split_first().map_or((0, input), |(first, rest)| (*first, rest));
    let service = if service & 1 == 0 { Service::Postgres } else { Service::Redis };
    let mut segments = Conversation::new();
    while let Some(([side, high, low], behind)) = rest.split_first_chunk() {
        let (bytes, behind) = behind.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(behind.len()));
        segments.push((if side & 1 == 0 { Side::Client } else { Side::Server }, bytes.to_vec()));
        rest = behind;
    }
    (service, segments)
}

/// How a conversation is cut into segments makes no difference, all bytes are counted, and what a beginning of it shows is the beginning
/// of what the whole shows.
///
/// # Panics
/// Where that does not hold.
pub fn conversation(service: Service, segments: &[(Side, Vec<u8>)]) {
    let whole = watched(service, segments);
    let mut bytewise = Watch::new(service);
    let mut before = bytewise.trace().clone();
    for (side, bytes) in segments {
        for byte in bytes {
            bytewise.sent(*side, &[*byte]);
            let after = bytewise.trace();
            assert!(after.events.starts_with(&before.events), "{:?} became {:?}", before.events, after.events);
            assert!(after.alerts.starts_with(&before.alerts), "{:?} became {:?}", before.alerts, after.alerts);
            assert!(before.sqlstate.is_none() || before.sqlstate == after.sqlstate, "an answer is given once");
            if after.events.len() != before.events.len() || after.alerts.len() != before.alerts.len() {
                before = after.clone();
            }
        }
    }
    assert_eq!(*bytewise.trace(), whole, "byte by byte");
    let count = |wanted| segments.iter().filter(|(side, _)| *side == wanted).map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
    assert_eq!((whole.bytes_up, whole.bytes_down), (count(Side::Client), count(Side::Server)));
}

fn watched(service: Service, segments: &[(Side, Vec<u8>)]) -> WireConnection {
    let mut watch = Watch::new(service);
    for (side, bytes) in segments {
        watch.sent(*side, bytes);
    }
    watch.trace().clone()
}

/// A stream of TLS records gives the same items in one piece and byte by byte, and nothing after its end.
///
/// # Panics
/// Where that does not hold.
pub fn tls_records(side: Side, bytes: &[u8]) {
    let whole = items(side, [bytes]);
    assert_eq!(items(side, bytes.chunks(1)), whole, "byte by byte");
    let end = whole.iter().position(|item| matches!(item, Item::Encrypted(_) | Item::End));
    assert!(end.is_none_or(|end| end + 1 == whole.len()), "{whole:?}");
    let last = |item: &&Item| matches!(item, Item::ClientHello(_) | Item::ServerHello(ServerHello::Chosen { .. }));
    assert!(whole.iter().filter(last).count() <= 1, "only a retry is followed by another hello: {whole:?}");
}

fn items<'a>(side: Side, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Item> {
    let mut reader = TlsReader::new(side);
    let mut items = Vec::new();
    for mut piece in pieces {
        while let Some(item) = reader.next(&mut piece) {
            items.push(item);
        }
        assert!(piece.is_empty(), "a reader takes what it is given");
    }
    items
}

/// The body of a hello is read alike alone and in a stream of records, whatever its size and that of the records.
///
/// # Panics
/// Where that does not hold.
pub fn hello(side: Side, body: &[u8], record: usize) {
    let body = body.get(..LONGEST_BODY).unwrap_or(body);
    let (kind, expected) = match side {
        Side::Client => (1, hello::client_hello(body).map(Item::ClientHello)),
        Side::Server => (2, hello::server_hello(body).map(Item::ServerHello)),
    };
    let [_, length @ ..] = u32::try_from(body.len()).unwrap_or_default().to_be_bytes();
    let message = [&[kind][..], &length, body].concat();
    let mut stream = Vec::new();
    for part in message.chunks(record.clamp(1, 1 << 14)) {
        stream.extend([HANDSHAKE, 3, 3]);
        stream.extend(u16::try_from(part.len()).unwrap_or_default().to_be_bytes());
        stream.extend(part);
    }
    // An alert behind it: the reader has found the end of the hello.
    stream.extend([21, 3, 3, 0, 2, 2, 48]);
    let found: Vec<Item> = expected.into_iter().chain([Item::Alert(Alert::UnknownCa)]).collect();
    assert_eq!(items(side, [&stream[..]]), found);
}

/// The longest body of a hello that the reader takes.
const LONGEST_BODY: usize = 32 * 1024;

/// A server's messages give the same answer in one piece and byte by byte.
///
/// # Panics
/// Where that does not hold.
pub fn postgres_answer(bytes: &[u8]) {
    let whole = answer([bytes]);
    assert_eq!(answer(bytes.chunks(1)), whole, "byte by byte");
}

fn answer<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Option<(Answer, usize)> {
    let mut reader = AnswerReader::default();
    let mut taken = 0;
    for piece in pieces {
        let mut rest = piece;
        let answer = reader.next(&mut rest);
        taken += piece.len() - rest.len();
        if let Some(answer) = answer {
            return Some((answer, taken));
        }
        assert!(rest.is_empty(), "a reader takes what it is given");
    }
    None
}
