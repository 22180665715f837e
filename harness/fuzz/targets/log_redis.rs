#![no_main]
//! Redis's log.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    serverlog::properties::redislog(input);
});
