//! Properties of the classification. `PROPTEST_CASES` says how many inputs of each.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::properties;
use crate::protocol::{Answer, Failure, Operation, Outcome, Request};
use model::driver::Family;
use model::refusal::Stage;

/// Words of real messages in any order, and any text between them.
fn text() -> impl Strategy<Value = String> {
    let known = select(vec![
        "SSL error: tlsv1 alert unknown ca\n",
        "SSL error code ",
        "336151648",
        "connection to server at ",
        "\"127.0.0.1\", port ",
        "5432 failed: ",
        "FATAL:  ",
        "certificate verify failed",
        "(_ssl.c:2580)",
        "server closed the connection unexpectedly",
        "[SSL: ",
        "tlsv13 alert ",
        "Error 111 connecting to ",
        "could not ",
        "file \"",
        "private key",
        ": ",
        "\n",
        "18446744073709551616",
    ]);
    vec(prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>()], 0..8).prop_map(|parts| parts.concat())
}

fn failure() -> impl Strategy<Value = Failure> {
    let stage = select(vec![None, Some(Stage::Connect), Some(Stage::Handshake), Some(Stage::PostHandshake), Some(Stage::Query)]);
    (text(), stage, proptest::option::of("[0-9A-Z]{5}"), proptest::option::of(text())).prop_map(|(text, stage, sqlstate, detail)| Failure {
        text,
        stage,
        sqlstate,
        detail,
        ..Failure::default()
    })
}

proptest! {
    #[test]
    fn every_text_has_a_class_and_stays_beside_it(failure in failure(), family in select(vec![Family::Libpq, Family::RedisPy, Family::Other])) {
        properties::refusal(family, &failure);
    }

    #[test]
    fn any_line_is_an_answer_or_an_error(line in prop_oneof![any::<String>(), "\\{\"id\":[0-9]{1,22},\"result\":\\{?\"(answered|closed|refused|error|unable)\"?(:\"x\"|:\\{\"text\":\"x\"\\})?\\}?\\}?"]) {
        properties::protocol_line(line.as_bytes());
    }

    #[test]
    fn answers_and_requests_are_read_as_written_and_no_beginning_of_them_is_one(id: u64, limit_ms: u64, session: u64, failure in failure(), close: bool) {
        let answer = Answer { id, result: Outcome::Refused(failure) };
        let line = serde_json::to_string(&answer).expect("it can be written");
        prop_assert!(!line.contains('\n'), "a line");
        prop_assert_eq!(serde_json::from_str::<Answer>(&line).expect("it can be read"), answer);
        for (length, _) in line.char_indices() {
            prop_assert!(serde_json::from_str::<Answer>(&line[..length]).is_err());
        }
        let request = Request { id, limit_ms, operation: if close { Operation::Close(session) } else { Operation::Query(session) } };
        let line = serde_json::to_string(&request).expect("it can be written");
        prop_assert_eq!(serde_json::from_str::<Request>(&line).expect("it can be read"), request);
    }
}
