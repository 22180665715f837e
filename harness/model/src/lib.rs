//! The nouns of the harness: data without I/O.

pub mod case;
pub mod causes;
pub mod change;
pub mod claim;
pub mod connect;
pub mod connect_plan;
pub mod credential;
pub mod deviation;
pub mod driver;
pub mod duration;
pub mod endpoint;
pub mod image;
pub mod network;
pub mod observation;
pub mod outcome;
pub mod refusal;
pub mod report;
pub mod scenario;
pub mod server;
pub mod text;
pub mod timeline;
pub mod when;
pub mod wire;
