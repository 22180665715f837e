#![no_main]
//! Redis's log.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    environment::log_properties::redislog(input);
});
