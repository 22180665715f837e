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
            Item::ChangeCipherSpec | Item::End => self.ignore(side),
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
