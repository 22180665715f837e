//! The relay between real sockets.

mod cost;
mod handshake;

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Fault, Relay, RelayError, RelayOptions};
use model::server::Service;
use model::wire::WireEvent::{self, AuthRefused, Connect, DirectTls, SslAccepted};
use model::wire::{Side, WireTrace};
use os::dial::Direct;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LIMIT: Duration = Duration::from_secs(10);
/// An alert record as PostgreSQL sends it for a certificate of an unknown CA under TLS 1.2.
const ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 48];

/// A server that gives every connection to `answer`, one after the other, and ends after `connections`.
fn server(connections: usize, mut answer: impl FnMut(TcpStream, SocketAddr) + Send + 'static) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        for _ in 0..connections {
            let (stream, peer) = listener.accept().expect("a connection");
            answer(stream, peer);
        }
    });
    (address, thread)
}

fn options(upstream: SocketAddr) -> RelayOptions {
    RelayOptions { dialer: Arc::new(Direct), upstream, source: None, listen: LOCALHOST, service: Service::Postgres, faults: Vec::new() }
}

async fn relay(options: RelayOptions) -> Relay {
    Relay::open(options).await.expect("a relay")
}

/// Runs a blocking client, and gives what it gave and the trace.
async fn through<T: Send + 'static>(relay: Relay, client: impl FnOnce(TcpStream) -> T + Send + 'static) -> (T, WireTrace) {
    let address = relay.address();
    let given = tokio::task::spawn_blocking(move || {
        let stream = TcpStream::connect(address).expect("the relay listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        client(stream)
    });
    let given = given.await.expect("the client");
    (given, relay.finish(LIMIT).await)
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &linger).expect("linger");
    drop(stream);
}

/// Reads to the end; how it ended stands beside what was read.
fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes).map(|_| ());
    (bytes, end)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_reaches_the_client_though_the_server_resets_at_once() {
    for _ in 0..300 {
        let (address, server) = server(1, |mut stream, _| {
            stream.read_exact(&mut [0; 1]).expect("the client's first byte");
            stream.write_all(&ALERT).expect("sent");
            reset(stream);
        });
        let ((bytes, end), trace) = through(relay(options(address)).await, |mut stream| {
            stream.write_all(&[22]).expect("sent");
            read_all(&mut stream)
        })
        .await;
        server.join().expect("the server");
        assert_eq!(bytes, ALERT);
        assert_eq!(end.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(trace.events(), [Connect, DirectTls, WireEvent::Alert]);
        assert_eq!(trace.connections[0].closed_first, Some(Side::Server));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alert_reaches_a_client_that_is_still_sending_when_the_server_hangs_up() {
    for _ in 0..100 {
        let (address, server) = server(1, |mut stream, _| {
            stream.read_exact(&mut [0; 1]).expect("the client's first byte");
            stream.write_all(&ALERT).expect("sent");
            // Closed with unread bytes: the kernel makes a reset of it, and what the relay writes now fails.
        });
        let ((bytes, _), trace) = through(relay(options(address)).await, |mut stream| {
            let mut writer = stream.try_clone().expect("a second handle");
            let sending = std::thread::spawn(move || while writer.write_all(&[22; 1024]).is_ok() {});
            let read = read_all(&mut stream);
            sending.join().expect("the sender ends with the connection");
            read
        })
        .await;
        server.join().expect("the server");
        assert_eq!(bytes, ALERT);
        assert_eq!(trace.connections[0].closed_first, Some(Side::Server));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_still_gets_its_answer_and_an_orderly_end() {
    let (address, server) = server(1, |mut stream, _| {
        let (bytes, end) = read_all(&mut stream);
        end.expect("the client's orderly end");
        stream.write_all(&bytes).expect("sent");
    });
    let ((bytes, end), trace) = through(relay(options(address)).await, |mut stream| {
        stream.write_all(b"last words").expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        read_all(&mut stream)
    })
    .await;
    server.join().expect("the server");
    end.expect("the server's orderly end");
    assert_eq!(bytes, b"last words");
    assert_eq!(trace.connections[0].closed_first, Some(Side::Client));
    assert_eq!((trace.connections[0].bytes_up, trace.connections[0].bytes_down), (10, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_last_words_and_reset_reach_the_server() {
    let (report, seen) = std::sync::mpsc::channel();
    let (address, server) = server(1, move |mut stream, _| {
        stream.write_all(b"S").expect("sent");
        report.send(read_all(&mut stream)).expect("the test listens");
    });
    let ((), trace) = through(relay(options(address)).await, |mut stream| {
        stream.read_exact(&mut [0; 1]).expect("the server's byte");
        stream.write_all(&ALERT).expect("sent");
        reset(stream);
    })
    .await;
    server.join().expect("the server");
    let (bytes, end) = seen.recv().expect("the server's report");
    assert_eq!(bytes, ALERT);
    assert_eq!(end.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(trace.connections[0].closed_first, Some(Side::Client));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_answers_arrive_whole_and_in_order() {
    let sent: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let (address, server) = server(1, move |mut stream, _| stream.write_all(&sent).expect("sent"));
    let ((bytes, end), trace) = through(relay(options(address)).await, |mut stream| read_all(&mut stream)).await;
    server.join().expect("the server");
    end.expect("an orderly end");
    assert!(bytes == expected, "{} bytes of {}", bytes.len(), expected.len());
    assert_eq!(trace.connections[0].bytes_down, 12_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_sees_the_address_asked_for_and_the_relay_knows_its_port() {
    let source = IpAddr::V4(Ipv4Addr::new(127, 3, 2, 1));
    let (report, peers) = std::sync::mpsc::channel();
    let (address, server) = server(3, move |_, peer| report.send(peer).expect("the test listens"));
    let relay = relay(RelayOptions { source: Some(source), ..options(address) }).await;
    let at = relay.address();
    let peers = tokio::task::spawn_blocking(move || {
        let connect = |_| {
            read_all(&mut TcpStream::connect(at).expect("the relay listens")).1.expect("an orderly end");
            peers.recv().expect("a peer")
        };
        (0..3).map(connect).collect::<Vec<_>>()
    });
    let peers = peers.await.expect("the client");
    assert!(peers.iter().all(|peer| peer.ip() == source), "{peers:?}");
    assert_eq!(relay.upstreams(), peers);
    let trace = relay.finish(LIMIT).await;
    assert_eq!(trace.connections.iter().filter_map(|connection| connection.upstream).collect::<Vec<_>>(), peers);
    assert_eq!(trace.events(), [Connect; 3]);
    server.join().expect("the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_is_carried_as_well() {
    let localhost = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let Ok(listener) = TcpListener::bind((localhost, 0)) else {
        // No IPv6 on this machine: the relay says so too, and names the address.
        let error = Relay::open(RelayOptions { listen: localhost, ..options(SocketAddr::new(LOCALHOST, 1)) }).await;
        assert!(error.expect_err("no IPv6").to_string().contains("::1"));
        return;
    };
    let address = listener.local_addr().expect("bound");
    let server = std::thread::spawn(move || listener.accept().expect("a connection").1);
    let relay = relay(RelayOptions { listen: localhost, source: Some(localhost), ..options(address) }).await;
    let (_, trace) = through(relay, |mut stream| read_all(&mut stream)).await;
    assert_eq!(trace.connections[0].upstream, Some(server.join().expect("the server")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_there_resets_the_client() {
    let gone = TcpListener::bind((LOCALHOST, 0)).expect("a port").local_addr().expect("bound");
    let ((bytes, end), trace) = through(relay(options(gone)).await, |mut stream| read_all(&mut stream)).await;
    assert!(bytes.is_empty(), "{bytes:?}");
    assert_eq!(end.expect_err("a reset").kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(trace.connections[0].upstream, None);
    assert!(trace.connections[0].upstream_error.as_deref().is_some_and(|error| error.contains("refused")), "{trace:?}");
    assert_eq!(trace.error, None, "that is the server's doing, not the relay's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unusable_addresses_are_refused_before_any_connection() {
    let upstream = SocketAddr::new(LOCALHOST, 5432);
    let everywhere = Relay::open(RelayOptions { listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ..options(upstream) }).await;
    assert!(matches!(everywhere, Err(RelayError::NotLoopback(_))), "{everywhere:?}");
    let mixed = Relay::open(RelayOptions { source: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)), ..options(upstream) }).await;
    assert!(matches!(mixed, Err(RelayError::Family { .. })), "{mixed:?}");
    // TEST-NET-3, RFC 5737: no machine has it.
    let foreign = Relay::open(RelayOptions { source: Some(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7))), ..options(upstream) }).await;
    assert!(matches!(foreign, Err(RelayError::Source { .. })), "{foreign:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn finish_ends_connections_that_do_not_end_by_themselves() {
    let (address, server) = server(1, |mut stream, _| {
        read_all(&mut stream).1.ok();
    });
    let relay = relay(options(address)).await;
    let mut client = tokio::net::TcpStream::connect(relay.address()).await.expect("the relay listens");
    client.write_all(b"hello").await.expect("sent");
    let trace = relay.finish(Duration::from_millis(50)).await;
    assert_eq!((trace.connections.len(), trace.connections[0].closed_first), (1, None));
    server.join().expect("the server has seen the end");
    assert_eq!(client.read(&mut [0; 1]).await.ok(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_connects_and_goes_at_once_is_recorded() {
    let (address, server) = server(20, |mut stream, _| {
        read_all(&mut stream).1.ok();
    });
    for _ in 0..20 {
        let relay = relay(options(address)).await;
        drop(TcpStream::connect(relay.address()).expect("the relay listens"));
        let trace = relay.finish(LIMIT).await;
        assert_eq!((trace.events(), trace.connections[0].closed_first), (vec![Connect], Some(Side::Client)));
    }
    server.join().expect("the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_relay_leaves_no_connection() {
    let (address, server) = server(1, |mut stream, _| {
        read_all(&mut stream).1.ok();
    });
    let relay = relay(options(address)).await;
    let at = relay.address();
    let mut client = tokio::net::TcpStream::connect(at).await.expect("the relay listens");
    client.write_all(b"hello").await.expect("sent");
    drop(relay);
    // Both ends see it, whether the connection had been accepted by then or not.
    let _ = client.read(&mut [0; 1]).await;
    let gone = os::poll::until("the port to be free", LIMIT, Duration::from_millis(1), || async {
        TcpStream::connect(at).map_or(Ok(()), |_| Err("still accepts".to_owned()))
    });
    gone.await.expect("nobody listens any more");
    // The server may not have seen a connection at all: this one lets it end.
    drop(TcpStream::connect(address));
    server.join().expect("the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_connections_in_a_row_find_a_port() {
    const CONNECTIONS: usize = 5000;
    let (address, server) = server(CONNECTIONS, |mut stream, _| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte)).expect("echoed");
        // The client hangs up first, so that the relay's port is the one in TIME_WAIT.
        assert_eq!(stream.read(&mut byte).expect("an orderly end"), 0);
    });
    let relay = relay(RelayOptions { source: Some(IpAddr::V4(Ipv4Addr::new(127, 9, 9, 9))), ..options(address) }).await;
    let at = relay.address();
    tokio::task::spawn_blocking(move || (0..CONNECTIONS).for_each(|_| echo(at))).await.expect("the client");
    let trace = relay.finish(LIMIT).await;
    server.join().expect("the server");
    assert_eq!(trace.error, None);
    assert_eq!(trace.connections.len(), CONNECTIONS);
    assert!(trace.connections.iter().all(|one| one.closed_first == Some(Side::Client) && one.bytes_down == 1), "every one whole");
}

/// One connection: a byte there and back.
fn echo(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    let mut byte = [0; 1];
    stream.write_all(b"x").and_then(|()| stream.read_exact(&mut byte)).expect("an echo");
    assert_eq!(byte, *b"x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_delay_cut_and_garble() {
    let (address, server) = server(3, |mut stream, _| {
        let mut bytes = [0; 6];
        if stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).ok();
        }
    });
    let exchange = |mut stream: TcpStream| {
        let start = Instant::now();
        stream.write_all(b"abcdef").expect("sent");
        let (bytes, end) = read_all(&mut stream);
        (bytes, end.map_err(|error| error.kind()), start.elapsed())
    };
    let with = |fault| RelayOptions { faults: vec![fault], ..options(address) };

    let wait = Duration::from_millis(60);
    let ((bytes, end, took), _) = through(relay(with(Fault::Delay(wait))).await, exchange).await;
    assert_eq!((bytes.as_slice(), end), (&b"abcdef"[..], Ok(())));
    assert!(took >= wait, "{took:?}");

    let garbled = Fault::Garble { side: Side::Server, offset: 2 };
    let ((bytes, end, _), _) = through(relay(with(garbled)).await, exchange).await;
    assert_eq!((bytes.as_slice(), end), (&[b'a', b'b', !b'c', b'd', b'e', b'f'][..], Ok(())));

    let cut = Fault::CutAfter { side: Side::Server, bytes: 4 };
    let ((bytes, end, _), trace) = through(relay(with(cut)).await, exchange).await;
    assert_eq!((bytes.as_slice(), end), (&b"abcd"[..], Err(io::ErrorKind::ConnectionReset)));
    assert_eq!(trace.connections[0].closed_first, None, "neither side did it");
    server.join().expect("the server");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_client_stand_in_order_of_arrival() {
    let mut first = true;
    let (address, server) = server(2, move |mut stream, _| {
        if std::mem::take(&mut first) {
            stream.read_exact(&mut [0; 8]).expect("SSLRequest");
            stream.write_all(b"S").expect("sent");
        } else {
            stream.write_all(b"E\0\0\0\x0cC28000\0\0").expect("sent");
        }
        read_all(&mut stream).1.expect("an orderly end");
    });
    let relay = relay(options(address)).await;
    let at = relay.address();
    let client = tokio::task::spawn_blocking(move || {
        let mut encrypted = TcpStream::connect(at).expect("the relay listens");
        encrypted.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).expect("sent");
        encrypted.read_exact(&mut [0; 1]).expect("the answer");
        drop(encrypted);
        let mut plain = TcpStream::connect(at).expect("the relay listens");
        plain.read_exact(&mut [0; 13]).expect("the error");
    });
    client.await.expect("the client");
    let trace = relay.finish(LIMIT).await;
    server.join().expect("the server");
    assert_eq!(trace.events(), [Connect, SslAccepted, Connect, AuthRefused]);
    assert_eq!(trace.connections[1].sqlstate.as_deref(), Some("28000"));
}
