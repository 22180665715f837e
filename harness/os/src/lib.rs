//! Processes, run directories and polling: everything that must be stopped or removed again goes through here.

pub mod accept;
pub mod access;
pub mod carry;
pub mod child;
pub mod command;
pub mod dial;
pub mod evidence;
pub mod file_watch;
pub mod frozen;
pub mod owner;
pub mod poll;
pub mod redact;
pub mod rundir;
pub mod shared_memory;
pub mod shell;
pub mod space;
pub mod toolchain;
pub mod tree;
pub mod user;
pub mod working_directory;
