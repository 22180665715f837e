//! Properties of the filter. `PROPTEST_CASES` says how many inputs of each.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::filter_pem::{FoundJunk, filter_pem};
use super::properties;
use crate::der::pem;

/// Pieces of PEM in any order, which need not be a block.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("-----BEGIN ".to_owned()),
        Just("-----END ".to_owned()),
        Just("-----".to_owned()),
        Just("CERTIFICATE".to_owned()),
        Just("EC PRIVATE KEY".to_owned()),
        Just("-----BEGIN CERTIFICATE-----\nYXBw\n-----END CERTIFICATE-----\n".to_owned()),
        Just("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\na2V5\n-----END EC PRIVATE KEY-----\n".to_owned()),
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("Proc-Type: 4,ENCRYPTED\n".to_owned()),
        Just("-----BEGIN CERTIFICATE-----\n\t-----END A: 1\n\nYXBw\n-----END CERTIFICATE-----\n".to_owned()),
        "[A-Za-z0-9+/]{0,12}={0,2}",
        any::<String>(),
    ];
    vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_filtered_stays_as_it_is_and_holds_no_block_of_another_type(text in pieces(), kind in select(vec!["CERTIFICATE", "certificate", "EC PRIVATE KEY"])) {
        properties::filtered(kind, &text);
    }

    #[test]
    fn blocks_of_the_wanted_type_are_kept_in_order(blocks in vec((any::<bool>(), vec(any::<u8>(), 0..100)), 0..5), between in "[a-z \n]{0,20}") {
        let name = |wanted: bool| if wanted { "CERTIFICATE" } else { "PRIVATE KEY" };
        let text: String = blocks.iter().map(|(wanted, content)| format!("{between}\n{}", pem(name(*wanted), content))).collect();
        let expected: String = blocks.iter().filter(|(wanted, _)| *wanted).map(|(_, content)| pem("CERTIFICATE", content)).collect();
        let found = filter_pem("certificate", &text);
        prop_assert!(found == Ok(expected.clone()) || (expected.is_empty() && found == Err(FoundJunk)), "{:?}", found);
        let keys: Vec<String> = blocks.iter().filter(|(wanted, content)| !wanted && content.len() > 12).map(|(_, content)| pem("X", content)).collect();
        let kept = found.unwrap_or_default();
        for key in &keys {
            let secret = key.lines().nth(1).expect("a line of base64");
            prop_assert!(expected.contains(secret) || !kept.contains(secret), "nothing of a key is left");
        }
    }
}
