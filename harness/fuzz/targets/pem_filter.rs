#![no_main]
//! A Secret's text, from which the blocks of one type are taken: the first byte says which.

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    if let Some((kind, text)) = input.split_first()
        && let Ok(text) = std::str::from_utf8(text)
    {
        let kind = if kind & 1 == 0 { "CERTIFICATE" } else { "EC PRIVATE KEY" };
        pki::site::properties::filtered(kind, text);
    }
});
