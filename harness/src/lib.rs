//! An end-to-end conformance harness for mutual TLS between an application and its PostgreSQL and Redis.
//!
//! Imports go down only:
//! `model` <- {`load`, `os`} <- `wire` <- {`pki`, `deployment`, `agent`} <- {`environment`, `driver`} <- `check` <- `run` <- {`report`, `session`} <- `cli`.
//! `environment` and `driver` never see each other: they share [`model::endpoint::Endpoint`].

pub mod agent;
pub mod check;
pub mod cli;
pub mod deployment;
pub mod driver;
pub mod environment;
pub mod exit;
pub mod load;
pub mod model;
pub mod os;
pub mod pki;
pub mod report;
pub mod run;
pub mod session;
pub mod wire;
