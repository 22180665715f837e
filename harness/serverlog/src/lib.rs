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

pub use haproxylog::HaproxyLog;
pub use index::{LogCondition, LogIndex};
pub use jsonlog::JsonLog;
pub use record::{LinePosition, Parser, Record, quote};
pub use redislog::RedisLog;
pub use tailer::Tailer;
