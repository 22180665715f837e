//! Connections that the agent makes.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::thread::JoinHandle;

use nix::libc::{EADDRNOTAVAIL, ECONNREFUSED, ENOENT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{LIMIT, served};
use crate::{AgentDialer, UnixForward};
use model::server::Service;
use os::dial::{Dialer as _, is_own_failure};
use wire::{Relay, RelayOptions};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NINE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

/// A server of one connection.
fn server<T: Send + 'static>(answer: impl FnOnce(TcpStream, SocketAddr) -> T + Send + 'static) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let (stream, peer) = listener.accept().expect("a connection");
        stream.set_read_timeout(Some(LIMIT)).expect("a timeout");
        answer(stream, peer)
    });
    (address, thread)
}

fn reset(stream: TcpStream) {
    nix::sys::socket::setsockopt(&stream, nix::sys::socket::sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).expect("set");
    drop(stream);
}

#[tokio::test]
async fn the_server_sees_the_address_that_was_asked_for_and_both_directions_end_alone() {
    let served = served().await;
    let (address, thread) = server(|mut stream, peer| {
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("up to the client's end of stream");
        stream.write_all(b"after your end").expect("the other direction goes on");
        (said, peer)
    });
    let mut dialled = served.agent.dial(address, Some(NINE)).await.expect("connects");
    dialled.stream.write_all(b"hello").await.expect("writes");
    dialled.stream.shutdown().await.expect("ends");
    let mut said = String::new();
    timeout(LIMIT, dialled.stream.read_to_string(&mut said)).await.expect("in time").expect("reads");
    let (heard, peer) = thread.join().expect("no panic");
    assert_eq!((heard.as_str(), said.as_str()), ("hello", "after your end"));
    assert_eq!((peer.ip(), peer), (NINE, dialled.client));
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_whole() {
    let served = served().await;
    let (address, thread) = server(|mut stream, _| stream.write_all(b"220 welcome\n").expect("writes"));
    let mut dialled = served.agent.dial(address, None).await.expect("connects");
    let mut said = String::new();
    timeout(LIMIT, dialled.stream.read_to_string(&mut said)).await.expect("in time").expect("reads");
    assert_eq!(said, "220 welcome\n");
    thread.join().expect("no panic");
}

#[tokio::test]
async fn resets_pass_in_both_directions_after_what_was_said() {
    let served = served().await;
    let (address, thread) = server(|mut stream, _| {
        stream.write_all(b"alert").expect("writes");
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the client has read");
        reset(stream);
    });
    let mut dialled = served.agent.dial(address, None).await.expect("connects");
    let mut said = [0; 5];
    timeout(LIMIT, dialled.stream.read_exact(&mut said)).await.expect("in time").expect("reads");
    dialled.stream.write_all(b"x").await.expect("writes");
    let error = timeout(LIMIT, dialled.stream.read(&mut said)).await.expect("in time").expect_err("a reset is no end of stream");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    thread.join().expect("no panic");

    let (address, thread) = server(|mut stream, _| {
        let mut said = Vec::new();
        (stream.read_to_end(&mut said).map_err(|error| error.kind()), said)
    });
    let mut dialled = served.agent.dial(address, None).await.expect("connects");
    dialled.stream.write_all(b"half").await.expect("writes");
    reset(dialled.stream.into_std().expect("a socket"));
    let (ended, _) = tokio::task::spawn_blocking(|| thread.join().expect("no panic")).await.expect("joined");
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn errors_of_bind_and_connect_are_the_systems_own() {
    let served = served().await;
    let free = TcpListener::bind((LOCALHOST, 0)).and_then(|listener| listener.local_addr()).expect("a port");
    let error = served.agent.dial(free, None).await.expect_err("nobody listens");
    assert_eq!((error.raw_os_error(), is_own_failure(&error)), (Some(ECONNREFUSED), false));
    let error = served.agent.dial(free, Some("192.0.2.1".parse().expect("an address"))).await.expect_err("not of this machine");
    assert_eq!((error.raw_os_error(), is_own_failure(&error)), (Some(EADDRNOTAVAIL), true));
}

#[tokio::test]
async fn a_dial_that_is_given_up_is_given_up_by_the_agent_too() {
    let served = served().await;
    // A full backlog: the connection is neither taken nor refused.
    let listener = tokio::net::TcpSocket::new_v4().expect("a socket");
    listener.bind(SocketAddr::new(LOCALHOST, 0)).expect("a port");
    let listener = listener.listen(1).expect("listens");
    let address = listener.local_addr().expect("bound");
    let mut waiting = Vec::new();
    while let Ok(stream) = timeout(std::time::Duration::from_millis(300), tokio::net::TcpStream::connect(address)).await {
        waiting.push(stream.expect("connects"));
    }
    let connecting = || {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("reads");
        let port = format!(":{:04X} 02 ", address.port());
        table.lines().filter(|line| line.contains(&port)).count()
    };
    let agent = served.agent.clone();
    let dialling = tokio::spawn(async move { agent.dial(address, None).await.map(drop) });
    super::until("a connection under way", || if connecting() > 0 { Ok(()) } else { Err("none".to_owned()) }).await;
    dialling.abort();
    super::until("its end", || match connecting() {
        0 => Ok(()),
        more => Err(format!("{more}")),
    })
    .await;
}

#[tokio::test]
async fn a_relay_goes_through_an_agent_and_knows_the_address_that_the_server_sees() {
    let served = served().await;
    let (address, thread) = server(|mut stream, peer| {
        stream.write_all(b"N").expect("writes");
        let _ = stream.read(&mut [0; 64]);
        peer
    });
    let dialer = Arc::new(AgentDialer::new(served.agent.clone()));
    let options =
        RelayOptions { dialer, upstream: address, source: Some(NINE), listen: LOCALHOST, service: Service::Postgres, faults: Vec::new() };
    let relay = Relay::open(options).await.expect("opens");
    let mut client = tokio::net::TcpStream::connect(relay.address()).await.expect("connects");
    client.read_exact(&mut [0]).await.expect("reads");
    let seen = relay.upstreams();
    drop(client);
    let trace = relay.finish(LIMIT).await;
    let peer = thread.join().expect("no panic");
    assert_eq!((seen, peer.ip()), (vec![peer], NINE));
    assert_eq!(trace.error, None);
    let dialer = AgentDialer::new(served.agent.clone());
    assert!(dialer.check(address, "::1".parse().expect("an address")).is_err(), "never of that family");
    assert!(dialer.check(address, "10.1.2.3".parse().expect("an address")).is_ok(), "that can't be known here");
}

#[tokio::test]
async fn a_unix_socket_there_has_a_path_here() {
    let served = served().await;
    let directory = tempfile::tempdir().expect("a directory");
    let (remote, local) = (directory.path().join("remote"), directory.path().join("way/.s.PGSQL.5432"));
    let listener = UnixListener::bind(&remote).expect("listens");
    let echo = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut said = String::new();
            stream.read_to_string(&mut said).await.expect("reads");
            stream.write_all(said.as_bytes()).await.expect("writes");
        }
    });
    let way = UnixForward::open(served.agent.clone(), &local, &remote).expect("opens");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!((mode(local.parent().expect("a directory")), mode(way.path())), (0o711, 0o600));
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(way.path()).expect("there"));
    assert_eq!(owner, os::user::RunAs::of_clients().map_or_else(|| nix::unistd::geteuid().as_raw(), |user| user.uid), "it is the clients'");
    for word in ["one", "two"] {
        let mut stream = UnixStream::connect(&local).await.expect("connects");
        stream.write_all(word.as_bytes()).await.expect("writes");
        stream.shutdown().await.expect("ends");
        let mut said = String::new();
        timeout(LIMIT, stream.read_to_string(&mut said)).await.expect("in time").expect("reads");
        assert_eq!(said, word);
    }
    drop(way);
    assert!(!local.exists());
    echo.abort();
    let error = served.agent.dial_unix("/nonexistent/socket".as_ref()).await.expect_err("no such socket");
    assert_eq!(error.raw_os_error(), Some(ENOENT));
}
