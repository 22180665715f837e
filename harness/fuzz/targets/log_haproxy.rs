#![no_main]
//! HAProxy's log.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    serverlog::properties::haproxylog(input);
});
