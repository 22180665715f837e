#![no_main]
//! One direction of TLS: the first byte says which.

use model::wire::Side;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((side, bytes)) = input.split_first() {
        wire::properties::tls_records(if side & 1 == 0 { Side::Client } else { Side::Server }, bytes);
    }
});
