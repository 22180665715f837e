//! Relays in the container.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};

use tokio::io::AsyncReadExt as _;

use super::{LIMIT, served};
use crate::RelaySpec;
use model::server::Service;
use model::wire::WireEvent::{Connect, SslRefused};

#[tokio::test]
async fn a_relay_there_tells_what_it_saw() {
    let served = served().await;
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let upstream = listener.local_addr().expect("bound");
    let thread = std::thread::spawn(move || {
        let (mut stream, peer) = listener.accept().expect("a connection");
        stream.read_exact(&mut [0; 8]).expect("a request");
        stream.write_all(b"N").expect("writes");
        peer
    });
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let spec = RelaySpec { upstream, source: Some(source), listen: Ipv4Addr::LOCALHOST.into(), service: Service::Postgres };
    let relay = served.agent.open_relay(spec).await.expect("opens");
    assert!(relay.upstreams().await.expect("told").is_empty());
    let mut client = tokio::net::TcpStream::connect(relay.address()).await.expect("connects");
    tokio::io::AsyncWriteExt::write_all(&mut client, &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.expect("asks for TLS");
    client.read_exact(&mut [0]).await.expect("reads");
    let peer = thread.join().expect("no panic");
    assert_eq!((relay.upstreams().await.expect("told"), peer.ip()), (vec![peer], source));
    drop(client);
    let trace = relay.finish(LIMIT).await.expect("told");
    assert_eq!((trace.events(), trace.error.as_deref()), (vec![Connect, SslRefused], None));
    assert_eq!(trace.connections.first().and_then(|connection| connection.upstream), Some(peer));
}

#[tokio::test]
async fn a_relay_that_cannot_be_opened_says_why_and_a_dropped_one_is_closed() {
    let served = served().await;
    let upstream = "127.0.0.1:5432".parse().expect("an address");
    let spec = RelaySpec { upstream, source: None, listen: Ipv4Addr::LOCALHOST.into(), service: Service::Redis };
    let elsewhere = RelaySpec { listen: Ipv4Addr::UNSPECIFIED.into(), ..spec };
    let error = served.agent.open_relay(elsewhere).await.expect_err("anybody could connect");
    assert!(error.to_string().contains("loopback"), "{error}");
    let stranger = RelaySpec { source: Some("192.0.2.1".parse().expect("an address")), ..spec };
    let error = served.agent.open_relay(stranger).await.expect_err("not an address of this machine");
    assert_eq!(error.errno(), Some(nix::libc::EADDRNOTAVAIL), "{error}");
    let relay = served.agent.open_relay(spec).await.expect("opens");
    let address = relay.address();
    drop(relay);
    super::until("its end", || match std::net::TcpStream::connect(address) {
        Err(_) => Ok(()),
        Ok(_) => Err("it listens".to_owned()),
    })
    .await;
}
