//! The fields of ClientHello and ServerHello (RFC 8446 section 4.1, RFC 5246 section 7.4.1) that decide a connection.

use super::bytes::Fields;
use model::connect::TlsVersion;
use model::wire::ClientHello;

/// `server_name`, RFC 6066 section 3.
const SERVER_NAME: u16 = 0;
/// `application_layer_protocol_negotiation`, RFC 7301 section 3.1.
const ALPN: u16 = 16;
/// `supported_versions`, RFC 8446 section 4.2.1.
const SUPPORTED_VERSIONS: u16 = 43;

/// SHA-256 of "HelloRetryRequest": the random of a ServerHello that is one (RFC 8446 section 4.1.3).
const RETRY_RANDOM: [u8; 32] = [
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
    0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
];

/// A ServerHello, or the HelloRetryRequest that has its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServerHello {
    /// The server wants another ClientHello; only TLS 1.3 has this.
    Retry,
    /// The server goes on with what it chose of the client's offer.
    Chosen {
        /// The version; `None` for one that no [`TlsVersion`] names.
        version: Option<TlsVersion>,
        /// The ALPN protocol, where the ServerHello itself tells (up to TLS 1.2).
        alpn: Option<String>,
    },
}

/// Reads the body of a ClientHello; `None` if it is malformed.
pub(super) fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut body = Fields::new(body);
    let legacy = body.u16()?;
    body.take(32)?; // random
    body.short_vector()?; // session id
    body.vector()?; // cipher suites
    body.short_vector()?; // compression methods
    let mut hello = ClientHello { versions: version(legacy).into_iter().collect(), ..ClientHello::default() };
    for_each_extension(body, |kind, mut content| {
        match kind {
            SERVER_NAME => {
                let mut names = content.vector()?;
                while !names.is_empty() {
                    let name_type = names.u8()?;
                    let name = names.vector()?;
                    if name_type == 0 {
                        hello.sni.get_or_insert(text(name.rest()));
                    }
                }
            }
            ALPN => hello.alpn = protocols(content)?,
            SUPPORTED_VERSIONS => {
                hello.versions.clear();
                let mut list = content.short_vector()?;
                while !list.is_empty() {
                    hello.versions.extend(version(list.u16()?));
                }
            }
            _ => {}
        }
        Some(())
    })?;
    Some(hello)
}

/// Reads the body of a ServerHello; `None` if it is malformed.
pub(super) fn server_hello(body: &[u8]) -> Option<ServerHello> {
    let mut body = Fields::new(body);
    let mut chosen = body.u16()?;
    let random = body.take(32)?;
    body.short_vector()?; // session id
    body.take(3)?; // cipher suite, compression method
    let mut alpn = None;
    for_each_extension(body, |kind, mut content| {
        match kind {
            ALPN => alpn = protocols(content)?.pop(),
            SUPPORTED_VERSIONS => chosen = content.u16()?,
            _ => {}
        }
        Some(())
    })?;
    if random == RETRY_RANDOM {
        return Some(ServerHello::Retry);
    }
    Some(ServerHello::Chosen { version: version(chosen), alpn })
}

/// Calls `read` with the number and content of each extension; a hello without extensions has none of the vector either.
fn for_each_extension<'a>(mut body: Fields<'a>, mut read: impl FnMut(u16, Fields<'a>) -> Option<()>) -> Option<()> {
    if body.is_empty() {
        return Some(());
    }
    let mut extensions = body.vector()?;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        read(kind, extensions.vector()?)?;
    }
    Some(())
}

/// The list in an ALPN extension.
fn protocols(mut content: Fields<'_>) -> Option<Vec<String>> {
    let mut list = content.vector()?;
    let mut names = Vec::new();
    while !list.is_empty() {
        names.push(text(list.short_vector()?.rest()));
    }
    Some(names)
}

/// The version of that number on the wire; GREASE values and SSL 3.0 have none.
fn version(number: u16) -> Option<TlsVersion> {
    match number {
        0x0301 => Some(TlsVersion::V1_0),
        0x0302 => Some(TlsVersion::V1_1),
        0x0303 => Some(TlsVersion::V1_2),
        0x0304 => Some(TlsVersion::V1_3),
        _ => None,
    }
}

/// Names on the wire are ASCII; anything else is kept readable.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
