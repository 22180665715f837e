//! The harness's own tests that need its binary, real servers or files. One target, so that it is linked once.

mod bad_files;
mod broken_environments;
mod leaks;
mod nautobot_config;
mod outcomes;
mod schema;
mod support;
mod wrong_on_purpose;
