#![no_main]
//! PostgreSQL's messages before authentication.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    wire::properties::postgres_answer(input);
});
