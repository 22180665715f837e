#![no_main]
//! The first line to an agent, and lines to a relay.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    agent::properties::request(input);
});
