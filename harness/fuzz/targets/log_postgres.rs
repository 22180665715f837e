#![no_main]
//! PostgreSQL's jsonlog.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    serverlog::properties::jsonlog(input);
});
