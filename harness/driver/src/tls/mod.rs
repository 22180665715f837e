//! TLS as both Rust drivers use it: credential files with libpq's rules, rustls configurations, certificate verification,
//! streams that keep what is known of a session, and the classes of what goes wrong.

mod classify;
mod config;
mod credential;
mod files;
mod locked;
mod stream;
mod trace;
mod verifier;

pub use classify::{classify_io, classify_tls};
pub use config::{KxGroups, TlsKit, TlsOffer, Unsupported, versions};
pub use credential::ClientCredential;
pub use files::{FileError, read_client_credential, read_roots, require_client_credential};
pub use locked::locked;
pub use stream::{SharedStreamErrors, Stream, StreamErrors, Transport, connect_tcp, connect_unix, shared_stream_errors};
pub use trace::{Ended, Trace, nanoseconds};
pub use verifier::{ServerVerifier, Verification};
