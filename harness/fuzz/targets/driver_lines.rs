#![no_main]
//! The JSON lines between the harness and a client program.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    driver::properties::protocol_line(input);
});
