#![no_main]
//! What client and server of Redis send: replies in plaintext, TLS.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (_, segments) = wire::properties::decode(input);
    wire::properties::conversation(model::server::Service::Redis, &segments);
});
