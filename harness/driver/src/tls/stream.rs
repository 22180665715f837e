//! Sockets and streams that lose no alert and tell what is known of the session.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::classify::tls_error_of;
use crate::error::{BrokenError, DriverError};
use model::causes::with_causes;
use model::connect::TlsVersion;
use model::observation::{Refused, SeenCertificate, Session};
use model::refusal::Stage;

use super::classify::classify_io;
use super::trace::Ended;

/// What a stream noticed. The client libraries wrap or drop such errors; this is where they are found again.
#[derive(Debug, Default)]
pub struct StreamErrors {
    /// The TLS error that a read after the handshake ended with.
    pub tls_error: Option<rustls::Error>,
    /// Whether anything was read after the handshake (or at all, without TLS).
    pub heard: bool,
}

/// [`StreamErrors`] shared with a stream that a client library owns.
pub type SharedStreamErrors = Arc<Mutex<StreamErrors>>;

/// For a stream that has not met any error yet.
#[must_use]
pub fn shared_stream_errors() -> SharedStreamErrors {
    SharedStreamErrors::default()
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connected socket.
///
/// A peer that refuses a certificate sends its alert and closes, perhaps before our next packet reaches it: our write then fails, with the
/// alert still waiting to be read. So a write to a closed connection counts as done, and the next read tells what happened. libpq does the
/// same (`pqsecure_raw_write`).
#[derive(Debug)]
pub struct Transport {
    socket: Socket,
    write_failed: bool,
}

impl Transport {
    fn new(socket: Socket) -> Self {
        Self { socket, write_failed: false }
    }

    /// After a failed write: done, or the error if it is one that reading will not explain.
    fn forgive(&mut self, error: io::Error, length: usize) -> io::Result<usize> {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
                self.write_failed = true;
                Ok(length)
            }
            _ => Err(error),
        }
    }
}

/// Connects by TCP, without Nagle's delay (as libpq).
///
/// # Errors
/// A refusal at [`Stage::Connect`], or [`DriverError::Broken`] where this machine ran out of descriptors or ports.
pub async fn connect_tcp(driver: &str, address: SocketAddr) -> Result<Transport, Ended> {
    let result = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let stream = result.await.map_err(|error| connect_error(driver, &address.to_string(), error))?;
    Ok(Transport::new(Socket::Tcp(stream)))
}

/// Connects to a unix socket.
///
/// # Errors
/// As [`connect_tcp`].
pub async fn connect_unix(driver: &str, path: &Path) -> Result<Transport, Ended> {
    let stream = UnixStream::connect(path).await.map_err(|error| connect_error(driver, &path.display().to_string(), error))?;
    Ok(Transport::new(Socket::Unix(stream)))
}

fn connect_error(driver: &str, to: &str, error: io::Error) -> Ended {
    use nix::errno::Errno;
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::ENOBUFS, Errno::ENOMEM];
    if error.raw_os_error().is_some_and(|code| exhausted.contains(&Errno::from_raw(code))) {
        return DriverError::broken(driver, BrokenError::Exhausted { to: to.to_owned(), source: error }).into();
    }
    Refused {
        refusal: classify_io(&error, Stage::Connect),
        stage: Some(Stage::Connect),
        sqlstate: None,
        text: format!("connection to {to} failed: {}", with_causes(&error)),
    }
    .into()
}

impl AsyncRead for Transport {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        let result = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        result.map(|result| result.or_else(|error| self.forgive(error, bytes.len())))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.write_failed {
            return Poll::Ready(Ok(length));
        }
        let result = match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Socket::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        result.map(|result| result.or_else(|error| self.forgive(error, length)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[derive(Debug)]
enum Layer {
    Plain(Transport),
    Tls(Box<TlsStream<Transport>>),
}

/// A connection ready for the protocol inside: plaintext, or TLS with its handshake done.
#[derive(Debug)]
pub struct Stream {
    layer: Layer,
    stream_errors: SharedStreamErrors,
}

impl Stream {
    /// A connection whose bytes go over the socket as they are.
    #[must_use]
    pub fn plain(transport: Transport, stream_errors: SharedStreamErrors) -> Self {
        Self { layer: Layer::Plain(transport), stream_errors }
    }

    /// A connection whose TLS handshake has succeeded.
    #[must_use]
    pub fn tls(stream: TlsStream<Transport>, stream_errors: SharedStreamErrors) -> Self {
        Self { layer: Layer::Tls(Box::new(stream)), stream_errors }
    }

    /// The ALPN protocol that was agreed on.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// The server's own certificate.
    #[must_use]
    pub fn server_certificate(&self) -> Option<&CertificateDer<'static>> {
        match &self.layer {
            Layer::Plain(_) => None,
            Layer::Tls(stream) => stream.get_ref().1.peer_certificates()?.first(),
        }
    }

    /// What the client knows of the session; the server's view is absent.
    #[must_use]
    pub fn session(&self) -> Session {
        let (version, cipher) = match &self.layer {
            Layer::Plain(_) => (None, None),
            Layer::Tls(stream) => {
                let connection = stream.get_ref().1;
                let cipher = connection.negotiated_cipher_suite().and_then(|suite| suite.suite().as_str()).map(str::to_owned);
                (connection.protocol_version().and_then(tls_version), cipher)
            }
        };
        Session {
            tls: matches!(self.layer, Layer::Tls(_)),
            version,
            cipher,
            alpn: self.alpn().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
            server_certificate: self.server_certificate().map(seen),
            server_view: None,
        }
    }
}

fn tls_version(version: ProtocolVersion) -> Option<TlsVersion> {
    match version {
        ProtocolVersion::TLSv1_2 => Some(TlsVersion::V1_2),
        ProtocolVersion::TLSv1_3 => Some(TlsVersion::V1_3),
        _ => None,
    }
}

fn seen(certificate: &CertificateDer<'_>) -> SeenCertificate {
    let digest = Sha256::digest(certificate);
    SeenCertificate { sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect() }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Layer::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if let Poll::Ready(result) = &result {
            let mut stream_errors = self.stream_errors.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(()) => stream_errors.heard |= buffer.filled().len() > before,
                Err(error) => stream_errors.tls_error = tls_error_of(error).cloned(),
            }
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Layer::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
