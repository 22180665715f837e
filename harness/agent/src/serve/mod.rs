//! The agent itself.
//!
//! Each connection is a task of its own; nothing that one asks for can hold up another. The agent ends with its last lease, or on
//! SIGTERM or SIGINT, and stops its children first; killed outright, the kernel sends them their stop signals.

mod answer;
mod archive;
mod child;
mod command;
mod dial;
mod files;
mod follow;
mod lifetime;
mod listener;
mod log;
mod pipe;
mod relay;
mod run;
mod survey;
mod token;

pub use command::{AgentArgs, COMMAND, StartError, main};
pub use listener::serve;
pub use token::{EmptyToken, Token};
