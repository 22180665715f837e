#![no_main]
//! HAProxy's log.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    environment::log_properties::haproxylog(input);
});
