//! The third witness: a relay between client and server that records what is visible on the wire.
//!
//! Client and server each tell their own story of a refused connection; the relay tells what was sent. One relay listens for one
//! case and records every connection that the client makes through it, in order of arrival (libpq connects again in `allow` and
//! `prefer`). It also picks the address that the server sees, knows the port by which the server's log names the connection, and
//! can delay, cut or garble.
//!
//! - [`Relay`] listens, and gives the trace.
//! - `link` carries one connection: bytes, ends of stream and resets pass as they are.
//! - `watch` reads along, in the plaintext prefix of both directions only; `postgres`, `redis` and `tls` know the formats.
//! - [`Fault`] is what a relay does to a connection on purpose.
//! - [`properties`] says what holds of the readers for any bytes: tests and the fuzz targets of `harness/fuzz` call it.

mod bytes;
mod fault;
mod hello;
mod link;
mod postgres;
pub mod properties;
mod redis;
mod relay;
mod tls;
mod watch;

#[cfg(test)]
mod captures;
#[cfg(test)]
mod end_to_end;
#[cfg(test)]
mod proptests;

pub use fault::Fault;
pub use relay::{Relay, RelayError, RelayOptions};
