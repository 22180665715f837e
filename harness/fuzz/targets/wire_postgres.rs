#![no_main]
//! What client and server of PostgreSQL send: requests for encryption, messages and answers in plaintext, TLS.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (_, segments) = wire::properties::decode(input);
    wire::properties::conversation(model::server::Service::Postgres, &segments);
});
