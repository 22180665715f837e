//! The harness's own tests that need its binary, real servers or files. One target, so that it is linked once.

mod agents;
mod await_expiry;
mod bad_days;
mod bad_files;
mod broken_environments;
mod broken_timelines;
mod clock;
mod closed_checkout;
mod command_line;
mod connect_fields;
#[cfg(feature = "container")]
mod containers;
mod documentation;
#[cfg(feature = "container")]
mod environments;
mod evidence;
mod few_capabilities;
mod gateways;
mod held_sessions;
mod hold;
mod key_owners;
mod leaks;
mod libpq_child;
mod lost_servers;
mod nautobot_config;
mod other_users;
mod outcomes;
#[cfg(feature = "container")]
mod pods;
mod repeat;
mod run_directory;
mod sabotage;
mod schema;
mod server_keys;
mod silent_programs;
mod support;
mod timed_out;
mod unclassified;
mod wrong_manifests;
mod wrong_on_purpose;
