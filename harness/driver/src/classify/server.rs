//! What a PostgreSQL server says of itself, whoever asks: that it takes no sessions, or that it ends one.

use model::refusal::{EndReason, Refusal, ServerState};

/// SQLSTATE, beginning of the message, class. Messages of `backend_startup.c` (`postmaster.c` before 18) and `postgres.c`.
const KNOWN: [(&str, &str, Refusal); 7] = [
    ("57P03", "the database system is starting up", Refusal::Server(ServerState::StartingUp)),
    ("57P03", "the database system is shutting down", Refusal::Server(ServerState::ShuttingDown)),
    ("57P03", "the database system is in recovery mode", Refusal::Server(ServerState::InRecovery)),
    ("57P03", "the database system is not yet accepting connections", Refusal::Server(ServerState::NotAccepting)),
    ("57P01", "terminating connection due to administrator command", Refusal::Ended(EndReason::AdminShutdown)),
    ("57P01", "terminating connection due to unexpected postmaster exit", Refusal::Ended(EndReason::PostmasterExit)),
    ("57P05", "terminating connection due to idle-session timeout", Refusal::Ended(EndReason::IdleTimeout)),
];

/// The class of a FATAL in which the server speaks of itself; `None` for any other. `message` begins after `FATAL:  `. At connect, libpq
/// gives no SQLSTATE: the message then decides alone.
#[must_use]
pub fn class(sqlstate: Option<&str>, message: &str) -> Option<Refusal> {
    let fits = |state: &str| sqlstate.is_none_or(|sqlstate| sqlstate == state);
    KNOWN.iter().find(|(state, start, _)| fits(state) && message.starts_with(start)).map(|(.., refusal)| *refusal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_tells_apart_what_one_sqlstate_covers() {
        let not_yet =
            "the database system is not yet accepting connections\nDETAIL:  Consistent recovery state has not been yet reached.\n";
        for (sqlstate, message, refusal) in [
            ("57P03", "the database system is starting up\n", Refusal::Server(ServerState::StartingUp)),
            ("57P03", "the database system is shutting down\n", Refusal::Server(ServerState::ShuttingDown)),
            ("57P03", "the database system is in recovery mode\n", Refusal::Server(ServerState::InRecovery)),
            ("57P03", not_yet, Refusal::Server(ServerState::NotAccepting)),
            ("57P01", "terminating connection due to administrator command\n", Refusal::Ended(EndReason::AdminShutdown)),
            ("57P01", "terminating connection due to unexpected postmaster exit\n", Refusal::Ended(EndReason::PostmasterExit)),
            ("57P05", "terminating connection due to idle-session timeout\n", Refusal::Ended(EndReason::IdleTimeout)),
        ] {
            assert_eq!(class(Some(sqlstate), message), Some(refusal), "{message}");
            assert_eq!(class(None, message), Some(refusal), "{message}");
        }
    }

    #[test]
    fn a_known_text_under_another_sqlstate_and_an_unknown_text_under_a_known_one_have_no_class() {
        assert_eq!(class(Some("28000"), "the database system is starting up"), None);
        assert_eq!(class(Some("57P01"), "terminating background worker"), None);
        assert_eq!(class(Some("53300"), "sorry, too many clients already"), None);
    }
}
