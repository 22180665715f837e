//! The part of the harness's own binary that runs in a container, and its client on the host.
//!
//! A container runs `mtls-conformance agent` under docker's init. The agent listens on one TCP port, which is published to the host's
//! loopback only and guarded by a token of the run. Over it the harness writes files, starts servers as the agent's children (as
//! CloudNativePG's instance manager does), follows logs, and dials servers from inside the container's networks: the server then sees
//! a real address, and the harness knows the port that the server's log names.
//!
//! - [`Agent`] is the client; [`serve()`] is the agent itself.
//! - `protocol` has the requests, one a TCP connection; `line` and `frame` how they are sent.
//! - [`AgentLease`]: when the last one has ended, the agent stops its children and exits. A harness that is killed leaves containers that
//!   end by themselves.

mod archive;
mod child;
mod client;
mod client_container;
mod dial;
mod error;
mod follow;
mod frame;
mod framed;
mod line;
pub mod properties;
#[cfg(test)]
mod proptests;
mod protocol;
mod relay;
mod run;
mod serve;
mod survey;
mod unix_forward;

#[cfg(test)]
mod tests;

pub use child::RemoteChild;
pub use client::{Agent, AgentLease};
pub use client_container::ClientContainer;
pub use dial::AgentDialer;
pub use error::AgentError;
pub use follow::Follower;
pub use protocol::{DirectorySpec, FileSpec, Owner, RelaySpec};
pub use relay::RemoteRelay;
pub use run::ProgramOutput;
pub use serve::{AgentArgs, COMMAND, EmptyToken, StartError, Token, main, serve};
pub use survey::{Interface, Python, Survey};
pub use unix_forward::UnixForward;
