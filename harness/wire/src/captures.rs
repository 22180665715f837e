//! Conversations of real clients and servers, and what the watcher must tell of them.
//!
//! The files under `captures/` hold one conversation each: `C` before what the client sent, `S` before what the server sent, in
//! the order in which a proxy read it, in hexadecimal.

use super::properties::Conversation;
use super::watch::Watch;
use model::connect::TlsVersion::{V1_2, V1_3};
use model::refusal::{Alert, Stage};
use model::server::Service;
use model::wire::Side::{self, Client, Server};
use model::wire::WireEvent::{AuthRefused, Authenticated, Connect, DirectTls, GssRefused, ServerHello, SslAccepted, SslRefused};
use model::wire::{ClientHello, WireAlert, WireConnection, WireEvent, WireTrace};

/// Every captured conversation, with the service that the watcher is told.
pub(super) const ALL: [(Service, &str); 15] = [
    (Service::Postgres, include_str!("captures/plain-accepted.txt")),
    (Service::Postgres, include_str!("captures/plain-refused.txt")),
    (Service::Postgres, include_str!("captures/tls13-session.txt")),
    (Service::Postgres, include_str!("captures/tls12-session.txt")),
    (Service::Postgres, include_str!("captures/tls12-unknown-ca.txt")),
    (Service::Postgres, include_str!("captures/tls12-client-refuses.txt")),
    (Service::Postgres, include_str!("captures/protocol-version.txt")),
    (Service::Postgres, include_str!("captures/direct.txt")),
    (Service::Postgres, include_str!("captures/direct-wrong-alpn.txt")),
    (Service::Postgres, include_str!("captures/direct-to-15.txt")),
    (Service::Postgres, include_str!("captures/tls12-alpn.txt")),
    (Service::Redis, include_str!("captures/redis-tls13.txt")),
    (Service::Redis, include_str!("captures/redis-tls12-no-certificate.txt")),
    (Service::Redis, include_str!("captures/redis-plain-accepted.txt")),
    (Service::Redis, include_str!("captures/redis-plain-refused.txt")),
];

/// What a capture's text holds.
pub(super) fn conversation(text: &str) -> Conversation {
    let mut parts: Conversation = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (tag, hex) = line.split_at(2);
        match tag {
            "C " => parts.push((Client, Vec::new())),
            "S " => parts.push((Server, Vec::new())),
            _ => assert_eq!(tag, "  ", "a line of a capture begins with C, S or two blanks"),
        }
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal"));
        parts.last_mut().expect("a first part").1.extend(bytes);
    }
    parts
}

fn watched(service: Service, conversation: &Conversation) -> WireConnection {
    let mut watch = Watch::new(service);
    for (side, bytes) in conversation {
        watch.sent(*side, bytes);
    }
    watch.trace().clone()
}

fn postgres(text: &str) -> WireConnection {
    watched(Service::Postgres, &conversation(text))
}

fn redis(text: &str) -> WireConnection {
    watched(Service::Redis, &conversation(text))
}

fn reached(connection: WireConnection) -> Stage {
    WireTrace { connections: vec![connection], error: None }.reached()
}

fn sent(side: Side, bytes: &[u8]) -> (Side, Vec<u8>) {
    (side, bytes.to_vec())
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];
const AUTHENTICATION_OK: [u8; 9] = [b'R', 0, 0, 0, 8, 0, 0, 0, 0];

#[test]
fn plaintext_that_the_server_lets_in() {
    let trace = postgres(include_str!("captures/plain-accepted.txt"));
    assert_eq!(trace.events, [Connect, Authenticated]);
    assert_eq!((trace.bytes_up, trace.bytes_down), (63, 414));
    assert_eq!(trace.client_hello, None);
    assert_eq!(reached(trace), Stage::Query);
}

#[test]
fn plaintext_that_the_server_refuses_has_its_sqlstate() {
    let trace = postgres(include_str!("captures/plain-refused.txt"));
    assert_eq!(trace.events, [Connect, AuthRefused]);
    assert_eq!(trace.sqlstate.as_deref(), Some("28000"));
    assert_eq!(reached(trace), Stage::Authentication);
}

#[test]
fn a_retried_tls_1_3_handshake_has_one_server_hello() {
    let trace = postgres(include_str!("captures/tls13-session.txt"));
    assert_eq!(trace.events, [Connect, SslAccepted, ServerHello]);
    assert_eq!(trace.client_hello, Some(ClientHello { sni: Some("db.example".into()), alpn: vec![], versions: vec![V1_3, V1_2] }));
    assert_eq!(trace.tls_version, Some(V1_3));
    assert_eq!(trace.alerts, []);
    assert_eq!((trace.handshake_finished, reached(trace)), (true, Stage::PostHandshake));
}

#[test]
fn encrypted_close_notify_of_tls_1_2_is_no_alert_in_the_clear() {
    let trace = postgres(include_str!("captures/tls12-session.txt"));
    assert_eq!(trace.events, [Connect, SslAccepted, ServerHello]);
    assert_eq!(trace.tls_version, Some(V1_2));
    assert_eq!(trace.alerts, []);
    assert_eq!(trace.client_hello.as_ref().map(|hello| hello.versions.clone()), Some(vec![V1_2]));
    assert_eq!(reached(trace), Stage::PostHandshake);
}

#[test]
fn a_refused_certificate_shows_in_tls_1_2() {
    let trace = postgres(include_str!("captures/tls12-unknown-ca.txt"));
    assert_eq!(trace.events, [Connect, SslAccepted, ServerHello, WireEvent::Alert]);
    assert_eq!(trace.alerts, [WireAlert { from: Server, alert: Alert::UnknownCa }]);
    assert_eq!(reached(trace), Stage::Handshake);
}

#[test]
fn a_client_that_refuses_the_server_shows_in_tls_1_2() {
    let trace = postgres(include_str!("captures/tls12-client-refuses.txt"));
    assert_eq!(trace.events, [Connect, SslAccepted, ServerHello, WireEvent::Alert]);
    assert_eq!(trace.alerts, [WireAlert { from: Client, alert: Alert::UnknownCa }]);
    assert_eq!(reached(trace), Stage::Handshake);
}

#[test]
fn a_refused_version_is_an_alert_without_server_hello() {
    let trace = postgres(include_str!("captures/protocol-version.txt"));
    assert_eq!(trace.events, [Connect, SslAccepted, WireEvent::Alert]);
    assert_eq!(trace.alerts, [WireAlert { from: Server, alert: Alert::ProtocolVersion }]);
    assert_eq!(trace.tls_version, None);
}

#[test]
fn direct_tls_shows_name_and_protocol() {
    let trace = postgres(include_str!("captures/direct.txt"));
    assert_eq!(trace.events, [Connect, DirectTls, ServerHello]);
    let hello = trace.client_hello.expect("a ClientHello");
    assert_eq!((hello.sni.as_deref(), hello.alpn), (Some("db.example"), vec!["postgresql".to_owned()]));
    assert_eq!(trace.alpn, None, "TLS 1.3 encrypts the server's choice");
}

#[test]
fn direct_tls_for_another_protocol_is_an_alert() {
    let trace = postgres(include_str!("captures/direct-wrong-alpn.txt"));
    assert_eq!(trace.events, [Connect, DirectTls, WireEvent::Alert]);
    assert_eq!(trace.alerts, [WireAlert { from: Server, alert: Alert::NoApplicationProtocol }]);
    assert_eq!(trace.client_hello.expect("a ClientHello").sni, None);
}

#[test]
fn direct_tls_to_a_server_that_hangs_up_ends_with_the_clients_alert() {
    let trace = postgres(include_str!("captures/direct-to-15.txt"));
    assert_eq!(trace.events, [Connect, DirectTls, WireEvent::Alert]);
    assert_eq!(trace.alerts, [WireAlert { from: Client, alert: Alert::DecodeError }]);
}

#[test]
fn tls_1_2_shows_the_chosen_protocol() {
    let trace = postgres(include_str!("captures/tls12-alpn.txt"));
    assert_eq!(trace.client_hello.expect("a ClientHello").alpn, ["http/1.1", "postgresql"]);
    assert_eq!((trace.tls_version, trace.alpn.as_deref()), (Some(V1_2), Some("postgresql")));
}

#[test]
fn redis_over_tls() {
    let trace = redis(include_str!("captures/redis-tls13.txt"));
    assert_eq!((trace.events, trace.tls_version), (vec![Connect, DirectTls, ServerHello], Some(V1_3)));
    let trace = redis(include_str!("captures/redis-tls12-no-certificate.txt"));
    assert_eq!(trace.events, [Connect, DirectTls, ServerHello, WireEvent::Alert]);
    assert_eq!(trace.alerts, [WireAlert { from: Server, alert: Alert::HandshakeFailure }]);
}

#[test]
fn redis_in_plaintext() {
    assert_eq!(redis(include_str!("captures/redis-plain-accepted.txt")).events, [Connect, Authenticated]);
    assert_eq!(redis(include_str!("captures/redis-plain-refused.txt")).events, [Connect, AuthRefused]);
}

#[test]
fn requests_refused_one_after_the_other_lead_to_plaintext() {
    let startup = [0, 0, 0, 16, 0, 3, 0, 0, b'u', b's', b'e', b'r', 0, b'a', 0, 0];
    let password = [b'R', 0, 0, 0, 8, 0, 0, 0, 3];
    let notice = [b'N', 0, 0, 0, 6, b'S', 0];
    let trace = watched(
        Service::Postgres,
        &vec![
            sent(Client, &GSSENC_REQUEST),
            sent(Server, b"N"),
            sent(Client, &SSL_REQUEST),
            sent(Server, b"N"),
            sent(Client, &startup),
            sent(Server, &password),
            sent(Server, &notice),
            sent(Server, &AUTHENTICATION_OK),
        ],
    );
    assert_eq!(trace.events, [Connect, GssRefused, SslRefused, Authenticated]);
}

#[test]
fn a_client_that_does_not_wait_for_the_answer_is_read_all_the_same() {
    let mut early = conversation(include_str!("captures/protocol-version.txt"));
    let answer = early.remove(1);
    early.insert(2, answer);
    let trace = watched(Service::Postgres, &early);
    assert_eq!(trace, postgres(include_str!("captures/protocol-version.txt")));
}

#[test]
fn an_error_in_place_of_the_answer_to_a_request_is_read() {
    let trace = watched(Service::Postgres, &vec![sent(Client, &SSL_REQUEST), sent(Server, b"E\0\0\0\x0fC53300\0Mx\0\0")]);
    assert_eq!((trace.events, trace.sqlstate.as_deref()), (vec![Connect, AuthRefused], Some("53300")));
    let trace = watched(Service::Postgres, &vec![sent(Client, &SSL_REQUEST), sent(Server, b"Ecould not fork new process\n\0")]);
    assert_eq!((trace.events, trace.sqlstate), (vec![Connect, AuthRefused], None));
}

#[test]
fn gss_encryption_is_not_read() {
    let trace = watched(
        Service::Postgres,
        &vec![sent(Client, &GSSENC_REQUEST), sent(Server, b"G"), sent(Client, &SSL_REQUEST), sent(Server, &AUTHENTICATION_OK)],
    );
    assert_eq!(trace.events, [Connect]);
}

#[test]
fn a_hello_spread_over_records_is_one_hello() {
    let whole = conversation(include_str!("captures/direct-wrong-alpn.txt"));
    let message = &whole[0].1[5..];
    let mut records = Vec::new();
    for part in message.chunks(7) {
        records.extend([22, 3, 1, 0, u8::try_from(part.len()).expect("short")]);
        records.extend(part);
    }
    let spread = watched(Service::Postgres, &vec![(Client, records), whole[1].clone()]);
    let plain = watched(Service::Postgres, &whole);
    assert_eq!((spread.events, spread.client_hello), (plain.events, plain.client_hello));
}

#[test]
fn every_split_of_every_capture_gives_the_same_trace() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (service, text) in ALL {
        let whole = conversation(text);
        let expected = watched(service, &whole);
        let bytewise: Conversation = whole.iter().flat_map(|(side, bytes)| bytes.iter().map(|byte| (*side, vec![*byte]))).collect();
        assert_eq!(watched(service, &bytewise), expected, "byte by byte: {text}");
        for _ in 0..200 {
            let mut split = Conversation::new();
            for (side, bytes) in &whole {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (part, after) = rest.split_at(1 + random.below(rest.len()));
                    split.push((*side, part.to_vec()));
                    rest = after;
                }
            }
            assert_eq!(watched(service, &split), expected, "{text}");
        }
    }
}

#[test]
fn no_bytes_make_the_watcher_panic_and_every_split_of_them_is_read_alike() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..4000 {
        let (service, text) = ALL[random.below(ALL.len())];
        let mut parts = if round % 4 == 0 { vec![(Client, vec![0; 40]), (Server, vec![0; 40])] } else { conversation(text) };
        for (_, bytes) in &mut parts {
            let changes = if round % 4 == 0 { bytes.len() } else { 1 + random.below(4) };
            for _ in 0..changes {
                let place = random.below(bytes.len());
                bytes[place] = u8::try_from(random.below(256)).expect("a byte");
            }
            if random.below(8) == 0 {
                bytes.truncate(random.below(bytes.len()));
            }
        }
        let bytewise: Conversation = parts.iter().flat_map(|(side, bytes)| bytes.iter().map(|byte| (*side, vec![*byte]))).collect();
        assert_eq!(watched(service, &parts), watched(service, &bytewise), "{parts:?}");
    }
}

#[test]
fn only_a_prefix_is_watched_and_all_of_it_is_counted() {
    let mut watch = Watch::new(Service::Postgres);
    watch.sent(Client, &SSL_REQUEST);
    let chunk = vec![0x16; 16 * 1024];
    for _ in 0..1000 {
        watch.sent(Client, &chunk);
    }
    watch.sent(Server, b"S");
    assert_eq!(watch.trace().bytes_up, 8 + 1000 * 16 * 1024);
    assert_eq!(watch.trace().events, [Connect], "a client that sends so much before its answer is none of ours");
}

/// Xorshift: the same numbers in every run.
struct Random(u64);

impl Random {
    /// A number in `0..limit`; 0 if `limit` is 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).expect("64 bits") % limit.max(1)
    }
}
