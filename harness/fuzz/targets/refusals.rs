#![no_main]
//! What a client says of a refusal: the first byte says which client, and how far it had come.

use driver::protocol::Failure;
use model::driver::Family;
use model::refusal::Stage;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((first, text)) = input.split_first() {
        let family = [Family::Libpq, Family::RedisPy, Family::Other][usize::from(first % 3)];
        let stages = [None, Some(Stage::Connect), Some(Stage::Handshake), Some(Stage::PostHandshake), Some(Stage::Query)];
        let stage = stages[usize::from(first / 3) % stages.len()];
        let mut parts = text.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned());
        let failure = Failure { text: parts.next().unwrap_or_default(), detail: parts.next(), stage, ..Failure::default() };
        driver::properties::refusal(family, &failure);
    }
});
