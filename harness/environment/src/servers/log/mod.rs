//! Servers' logs: each line read once, as soon as it is written, and kept by the connection it belongs to.

mod haproxylog;
mod index;
mod jsonlog;
pub mod properties;
#[cfg(test)]
mod proptests;
mod record;
mod redislog;
mod tailer;

pub(super) use haproxylog::HaproxyLog;
pub(super) use index::LogIndex;
pub(super) use jsonlog::JsonLog;
pub(super) use record::{Parser, quote};
pub(super) use redislog::RedisLog;
pub(super) use tailer::Tailer;
