//! Reads along in one connection and writes its trace.
//!
//! What a byte means depends on what the other side said before, so both directions are watched together. The trace is a
//! function of the bytes and their order only: how they were cut into segments makes no difference.

use std::net::SocketAddr;

use super::bytes::collect;
use super::hello::ServerHello;
use super::postgres::{self, Answer, AnswerReader, Opening};
use super::redis::{self, Reply};
use super::tls::{HANDSHAKE, Item, TlsReader};
use model::connect::TlsVersion;
use model::refusal::Alert;
use model::server::Service;
use model::wire::{Side, WireAlert, WireConnection, WireEvent};

/// Bytes watched in each direction. The plaintext of a TLS 1.2 handshake with long certificate chains fits easily.
const PREFIX: usize = 128 * 1024;

/// The longest record of an alert that TLS 1.3 encrypts: two bytes, the type, and the tag of AEAD_AES_128_GCM and its like (RFC 8446
/// sections 5.2 and 6). That of a Finished is 32 bytes longer at least.
const LONGEST_ALERT: usize = 2 + 1 + 16;

/// What the client's next bytes are.
#[derive(Debug)]
enum ClientState {
    /// The head of a packet of PostgreSQL's start, so far; or TLS from the first byte.
    Opening(Vec<u8>),
    /// An SSLRequest or GSSENCRequest waits for its answer; bytes sent ahead of that are held.
    Asked(Opening, Vec<u8>),
    Tls(TlsReader),
    /// Encrypted, or of no more interest: counted, not read.
    Ignored,
}

/// What the server's next bytes are.
#[derive(Debug)]
enum ServerState {
    /// An answer to the client's opening.
    Opening,
    Tls(TlsReader),
    /// PostgreSQL's messages in plaintext, up to the one that lets the client in or refuses it.
    Plain(AnswerReader),
    Ignored,
}

/// The watcher of one connection.
#[derive(Debug)]
pub(super) struct Watch {
    service: Service,
    trace: WireConnection,
    client: ClientState,
    server: ServerState,
    /// Bytes that may still be read from client and server.
    left: [usize; 2],
    /// HelloRetryRequest or a ServerHello of 1.3 was seen: ChangeCipherSpec then means nothing.
    tls13: bool,
}

impl Watch {
    /// A connection has arrived.
    pub(super) fn new(service: Service) -> Self {
        Self {
            service,
            trace: WireConnection { events: vec![WireEvent::Connect], ..WireConnection::default() },
            client: ClientState::Opening(Vec::new()),
            server: ServerState::Opening,
            left: [PREFIX; 2],
            tls13: false,
        }
    }

    /// The trace so far.
    pub(super) fn trace(&self) -> &WireConnection {
        &self.trace
    }

    /// The server is connected; it sees this address.
    pub(super) fn connected(&mut self, upstream: SocketAddr) {
        self.trace.upstream = Some(upstream);
    }

    /// The server can't be connected.
    pub(super) fn unreachable(&mut self, reason: String) {
        self.trace.upstream_error = Some(reason);
    }

    /// Whether one side's end of stream or reset was seen already.
    pub(super) fn has_closed(&self) -> bool {
        self.trace.closed_first.is_some()
    }

    /// That side ended its stream or reset the connection.
    pub(super) fn closed(&mut self, side: Side) {
        self.trace.closed_first.get_or_insert(side);
    }

    /// That side sent these bytes.
    pub(super) fn sent(&mut self, side: Side, bytes: &[u8]) {
        let (left, count) = match side {
            Side::Client => (&mut self.left[0], &mut self.trace.bytes_up),
            Side::Server => (&mut self.left[1], &mut self.trace.bytes_down),
        };
        *count += bytes.len() as u64;
        let readable = &bytes[..bytes.len().min(*left)];
        *left -= readable.len();
        let used_up = *left == 0;
        match side {
            Side::Client => self.watch_client(readable),
            Side::Server => self.watch_server(readable),
        }
        if used_up {
            self.ignore(side);
        }
    }

    fn watch_client(&mut self, mut input: &[u8]) {
        while let Some(first) = input.first() {
            match &mut self.client {
                ClientState::Opening(head) if head.is_empty() && *first == HANDSHAKE => {
                    self.trace.events.push(WireEvent::DirectTls);
                    self.client = ClientState::Tls(TlsReader::new(Side::Client));
                }
                ClientState::Opening(_) if self.service == Service::Redis => self.ignore(Side::Client),
                ClientState::Opening(head) => {
                    if collect(head, postgres::OPENING, &mut input) {
                        match postgres::opening(head) {
                            Opening::Other => self.ignore(Side::Client),
                            asked @ (Opening::Ssl | Opening::Gss) => self.client = ClientState::Asked(asked, Vec::new()),
                        }
                    }
                }
                ClientState::Asked(_, held) => {
                    held.extend_from_slice(input);
                    return;
                }
                ClientState::Tls(reader) => {
                    if let Some(item) = reader.next(&mut input) {
                        self.item(Side::Client, item);
                    }
                }
                ClientState::Ignored => return,
            }
        }
    }

    fn watch_server(&mut self, mut input: &[u8]) {
        while let Some(first) = input.first() {
            match &mut self.server {
                ServerState::Opening => {
                    let first = *first;
                    if self.answers_request(first) {
                        input = &input[1..];
                    } else if self.service == Service::Redis && !is_tls(first) {
                        self.redis_reply(first);
                    } else if is_tls(first) {
                        self.server = ServerState::Tls(TlsReader::new(Side::Server));
                    } else {
                        self.server = ServerState::Plain(AnswerReader::default());
                    }
                }
                ServerState::Tls(reader) => {
                    if let Some(item) = reader.next(&mut input) {
                        self.item(Side::Server, item);
                    }
                }
                ServerState::Plain(reader) => match reader.next(&mut input) {
                    Some(answer) => self.answer(answer),
                    None => return,
                },
                ServerState::Ignored => return,
            }
        }
    }

    /// If that byte of the server answers an SSLRequest or GSSENCRequest: takes the step, and reads what the client sent ahead.
    fn answers_request(&mut self, byte: u8) -> bool {
        let ClientState::Asked(asked, held) = &mut self.client else { return false };
        let (event, next) = match (*asked, byte) {
            (Opening::Ssl, b'S') => (Some(WireEvent::SslAccepted), ClientState::Tls(TlsReader::new(Side::Client))),
            (Opening::Ssl, b'N') => (Some(WireEvent::SslRefused), ClientState::Opening(Vec::new())),
            (Opening::Gss, b'N') => (Some(WireEvent::GssRefused), ClientState::Opening(Vec::new())),
            // GSS encryption from here on.
            (Opening::Gss, b'G') => (None, ClientState::Ignored),
            _ => return false,
        };
        let held = std::mem::take(held);
        self.trace.events.extend(event);
        match &next {
            ClientState::Tls(_) => self.server = ServerState::Tls(TlsReader::new(Side::Server)),
            ClientState::Ignored => self.server = ServerState::Ignored,
            ClientState::Opening(_) | ClientState::Asked(..) => {}
        }
        self.client = next;
        self.watch_client(&held);
        true
    }

    /// Something readable in the TLS stream of a side.
    fn item(&mut self, side: Side, item: Item) {
        match item {
            Item::ClientHello(hello) => self.trace.client_hello = Some(hello),
            Item::ServerHello(ServerHello::Retry) => self.tls13 = true,
            Item::ServerHello(ServerHello::Chosen { version, alpn }) => {
                self.trace.events.push(WireEvent::ServerHello);
                self.trace.tls_version = version;
                self.trace.alpn = alpn;
                self.tls13 = version == Some(TlsVersion::V1_3);
            }
            Item::Alert(alert) => self.alert(side, alert),
            Item::ChangeCipherSpec if self.tls13 => {}
            Item::ChangeCipherSpec => {
                // Up to TLS 1.2 the client's Finished comes first, and the server's ends the client's handshake.
                self.trace.handshake_finished |= side == Side::Server;
                self.ignore(side);
            }
            Item::Encrypted(length) => {
                self.trace.handshake_finished |= side == Side::Client && self.tls13 && length > LONGEST_ALERT;
                self.ignore(side);
            }
            Item::End => self.ignore(side),
        }
    }

    fn alert(&mut self, from: Side, alert: Alert) {
        self.trace.events.push(WireEvent::Alert);
        self.trace.alerts.push(WireAlert { from, alert });
    }

    /// PostgreSQL let the client in or refused it, in plaintext.
    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Ok => self.trace.events.push(WireEvent::Authenticated),
            Answer::Error(sqlstate) => {
                self.trace.events.push(WireEvent::AuthRefused);
                self.trace.sqlstate = sqlstate;
            }
            Answer::Unreadable => {}
        }
        self.ignore(Side::Server);
    }

    /// Redis replied in plaintext.
    fn redis_reply(&mut self, first: u8) {
        match redis::reply(first) {
            Reply::Ok => self.trace.events.push(WireEvent::Authenticated),
            Reply::Error => self.trace.events.push(WireEvent::AuthRefused),
            Reply::Unreadable => {}
        }
        self.ignore(Side::Server);
    }

    fn ignore(&mut self, side: Side) {
        match side {
            Side::Client => self.client = ClientState::Ignored,
            Side::Server => self.server = ServerState::Ignored,
        }
    }
}

/// Whether a server's first byte begins a TLS record: ChangeCipherSpec, alert or handshake.
fn is_tls(first: u8) -> bool {
    (20..=22).contains(&first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch(service: Service, sent: &[(Side, &[u8])]) -> WireConnection {
        let mut watch = Watch::new(service);
        for (side, bytes) in sent {
            watch.sent(*side, bytes);
        }
        watch.trace().clone()
    }

    #[test]
    fn what_became_of_the_servers_side_is_recorded_and_who_closed_first_once() {
        let mut watch = Watch::new(Service::Postgres);
        assert!(!watch.has_closed());
        let address = "127.0.0.1:5432".parse().expect("an address");
        watch.connected(address);
        watch.closed(Side::Server);
        assert!(watch.has_closed());
        watch.closed(Side::Client);
        assert_eq!((watch.trace().upstream, watch.trace().closed_first), (Some(address), Some(Side::Server)));
        watch.unreachable("connection refused".to_owned());
        assert_eq!(watch.trace().upstream_error.as_deref(), Some("connection refused"));
    }

    #[test]
    fn a_request_of_postgresql_means_nothing_to_redis() {
        // Redis answers in RESP; what would answer an SSLRequest is no reply.
        let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
        let sent: [(Side, &[u8]); 2] = [(Side::Client, &request), (Side::Server, b"S")];
        assert_eq!(watch(Service::Redis, &sent).events, [WireEvent::Connect]);
        assert_eq!(watch(Service::Postgres, &sent).events, [WireEvent::Connect, WireEvent::SslAccepted]);
    }

    #[test]
    fn behind_granted_gss_encryption_nothing_is_read() {
        let request = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
        // Were the rest read, it would be an AuthenticationOk.
        let sent: [(Side, &[u8]); 3] = [(Side::Client, &request), (Side::Server, b"G"), (Side::Server, &[b'R', 0, 0, 0, 8, 0, 0, 0, 0])];
        assert_eq!(watch(Service::Postgres, &sent).events, [WireEvent::Connect]);
    }

    /// A handshake record of a client, too short for a hello.
    const A_RECORD: [u8; 6] = [HANDSHAKE, 3, 1, 0, 1, 1];

    /// A ServerHello of TLS 1.2, or of 1.3 with `supported_versions`, in a record.
    fn server_hello(version: u8) -> Vec<u8> {
        let extension: &[u8] = if version == 4 { &[0, 6, 0, 43, 0, 2, 3, 4] } else { &[] };
        let body = [&[3, 3][..], &[7; 32], &[0, 0x13, 1, 0], extension].concat();
        let length = u8::try_from(body.len()).expect("short");
        [&[HANDSHAKE, 3, 3, 0, length + 4, 2, 0, 0, length][..], &body].concat()
    }

    #[test]
    fn an_alert_behind_a_change_of_the_cipher_is_readable_in_tls_1_3_only() {
        let change_and_alert = [20, 3, 3, 0, 1, 1, 21, 3, 3, 0, 2, 2, 48];
        let alerts = |version| {
            let stream = [&server_hello(version)[..], &change_and_alert].concat();
            watch(Service::Redis, &[(Side::Server, &stream)]).alerts
        };
        assert_eq!(alerts(4), [WireAlert { from: Side::Server, alert: Alert::UnknownCa }]);
        assert_eq!(alerts(3), [], "it is encrypted");
    }

    #[test]
    fn a_client_of_tls_1_3_that_answers_by_more_than_an_alert_has_finished_its_handshake() {
        let finished = |version, length: u8| {
            let answer = [&[20, 3, 3, 0, 1, 1, 23, 3, 3, 0, length][..], &vec![9; length.into()]].concat();
            let hello = server_hello(version);
            watch(Service::Redis, &[(Side::Client, &A_RECORD), (Side::Server, &hello), (Side::Client, &answer)]).handshake_finished
        };
        let early = [&A_RECORD[..], &[23, 3, 3, 0, 53]].concat();
        assert!(!watch(Service::Redis, &[(Side::Client, &early)]).handshake_finished, "there is no answer of the server");
        // A Finished of SHA-256 with a tag of 16 bytes; an alert with one of 16, of 8.
        assert_eq!([53, 19, 11].map(|length| finished(4, length)), [true, false, false]);
        assert!(!finished(3, 53), "up to TLS 1.2 the server ends it");
    }

    #[test]
    fn of_each_direction_128_kib_are_read_and_all_is_counted() {
        let notice = |length: u32| [&b"N"[..], &(length + 4).to_be_bytes(), &vec![b'x'; length as usize]].concat();
        let ok = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];
        // Messages before AuthenticationOk that end so many bytes before the prefix does.
        let answers = |left: u32| {
            let mut stream: Vec<u8> = (0..4).flat_map(|_| notice(30_000)).collect();
            stream.extend(notice(128 * 1024 - u32::try_from(stream.len()).expect("small") - 5 - left));
            stream.extend(ok);
            let trace = watch(Service::Postgres, &[(Side::Server, &stream)]);
            assert_eq!(trace.bytes_down, stream.len() as u64);
            trace.events
        };
        assert_eq!(answers(9), [WireEvent::Connect, WireEvent::Authenticated]);
        assert_eq!(answers(8), [WireEvent::Connect]);
    }
}
