//! What holds for any line of a client program and any text of a client. Property tests and the fuzz targets of `harness/fuzz` call these
//! functions with inputs of their own making; each panics where its property does not hold.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::classify;
use crate::protocol::{Answer, Failure, Greeting, Outcome, Request};
use model::driver::Family;
use model::refusal::Refusal;

/// A line is a greeting, an answer or a request that stays itself when it is written again, or none of them; and the refusal in an answer
/// has a class, with the client's words beside it.
///
/// # Panics
/// Where that does not hold.
pub fn protocol_line(line: &[u8]) {
    written_again::<Greeting>(line);
    written_again::<Request>(line);
    if let Some(Answer { result: Outcome::Refused(failure) | Outcome::TimedOut(failure), .. }) = written_again::<Answer>(line) {
        for family in [Family::Libpq, Family::RedisPy, Family::Other] {
            refusal(family, &failure);
        }
    }
}

fn written_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(line: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(line).ok()?;
    let written = serde_json::to_string(&read).expect("what was read can be written");
    assert!(!written.contains('\n'), "it is a line");
    assert_eq!(serde_json::from_str::<T>(&written).expect("what was written can be read"), read);
    Some(read)
}

/// Every failure has a class, the client's words stay beside it as they were, and the texts of a family that is not known are not guessed at.
///
/// # Panics
/// Where that does not hold.
pub fn refusal(family: Family, failure: &Failure) {
    let found = classify::refused(family, failure);
    assert!(found.text.starts_with(&failure.text), "{:?} became {:?}", failure.text, found.text);
    assert!(failure.detail.iter().all(|detail| found.text.contains(detail)), "{:?} is not in {:?}", failure.detail, found.text);
    assert_eq!(found.sqlstate, failure.sqlstate);
    assert!(family != Family::Other || matches!(found.refusal, Refusal::Unclassified(_)), "{:?}", found.refusal);
    let late = classify::timed_out(failure);
    assert_eq!(matches!(late.refusal, Refusal::TimedOut(_)), failure.stage.is_some(), "a time-out has a class if its stage is known");
    assert!(!late.text.is_empty(), "a time-out says something");
}
