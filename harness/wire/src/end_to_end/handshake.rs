//! A real rustls client and server on the two sides of a relay.

use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{LIMIT, LOCALHOST, options, relay};
use model::connect::TlsVersion;
use model::wire::WireEvent::{Connect, DirectTls, ServerHello, SslAccepted};
use model::wire::WireTrace;

/// A rustls server that answers SSLRequest if asked to, and a client's view of one exchange with it through a relay.
async fn handshake(version: &'static SupportedProtocolVersion, direct: bool) -> WireTrace {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["db.example".to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).expect("a root");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server_config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .expect("the version")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a server");
    server_config.alpn_protocols = vec![b"postgresql".to_vec()];
    let mut client_config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("the version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    client_config.alpn_protocols = vec![b"postgresql".to_vec()];

    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.expect("a port");
    let relay = relay(options(listener.local_addr().expect("bound"))).await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        if !direct {
            stream.read_exact(&mut [0; 8]).await.expect("SSLRequest");
            stream.write_all(b"S").await.expect("sent");
        }
        let mut tls = tokio_rustls::TlsAcceptor::from(Arc::new(server_config)).accept(stream).await.expect("a handshake");
        let mut text = [0; 5];
        tls.read_exact(&mut text).await.expect("the client's text");
        tls.write_all(&text).await.expect("sent");
        tls.shutdown().await.expect("closed");
    });
    let mut stream = tokio::net::TcpStream::connect(relay.address()).await.expect("the relay listens");
    if !direct {
        stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await.expect("sent");
        stream.read_exact(&mut [0; 1]).await.expect("the answer");
    }
    let name = ServerName::try_from("db.example").expect("a name");
    let mut tls = tokio_rustls::TlsConnector::from(Arc::new(client_config)).connect(name, stream).await.expect("a handshake");
    tls.write_all(b"hello").await.expect("sent");
    let mut text = Vec::new();
    tls.read_to_end(&mut text).await.expect("an orderly end");
    assert_eq!(text, b"hello");
    server.await.expect("the server");
    drop(tls);
    relay.finish(LIMIT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rustls_session_shows_hello_version_and_protocol() {
    let trace = handshake(&version::TLS13, false).await;
    let connection = &trace.connections[0];
    assert_eq!(connection.events, [Connect, SslAccepted, ServerHello]);
    assert_eq!((connection.tls_version, connection.alpn.as_deref()), (Some(TlsVersion::V1_3), None));
    let hello = connection.client_hello.as_ref().expect("a ClientHello");
    assert_eq!((hello.sni.as_deref(), &hello.alpn[..]), (Some("db.example"), &["postgresql".to_owned()][..]));

    let trace = handshake(&version::TLS12, true).await;
    let connection = &trace.connections[0];
    assert_eq!(connection.events, [Connect, DirectTls, ServerHello]);
    assert_eq!((connection.tls_version, connection.alpn.as_deref()), (Some(TlsVersion::V1_2), Some("postgresql")));
    assert_eq!(connection.alerts, []);
}
