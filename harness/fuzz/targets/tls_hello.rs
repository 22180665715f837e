#![no_main]
//! The body of a hello: the first byte says of which side, the second how long the records are.

use model::wire::Side;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let [side, record, body @ ..] = input {
        wire::properties::hello(if side & 1 == 0 { Side::Client } else { Side::Server }, body, usize::from(*record));
    }
});
