#![no_main]
//! Frames between host and agent.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    agent::properties::frames(input);
});
