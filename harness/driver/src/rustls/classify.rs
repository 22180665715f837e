//! The class of a PostgreSQL error.

use tokio_postgres::error::{DbError, SqlState};

use crate::classify::server;
use model::refusal::{AuthRefusal, Refusal, Stage};

/// The class of a FATAL that came in answer to the startup packet or during authentication.
///
/// SQLSTATE 28000 covers several refusals that only the message tells apart; the servers of this harness speak English
/// (`lc_messages=C`). Texts from PostgreSQL's auth.c and postinit.c.
#[must_use]
pub fn classify_fatal(sqlstate: &str, message: &str) -> AuthRefusal {
    let is = |state: SqlState| sqlstate == state.code();
    if is(SqlState::INVALID_PASSWORD) {
        AuthRefusal::Password
    } else if is(SqlState::INVALID_CATALOG_NAME) {
        AuthRefusal::NoDatabase
    } else if is(SqlState::CONFIG_FILE_ERROR) && message.starts_with("client certificates can only be checked") {
        AuthRefusal::NoRootStore
    } else if is(SqlState::INVALID_AUTHORIZATION_SPECIFICATION) {
        if message.starts_with("no pg_hba.conf entry for") {
            AuthRefusal::NoHbaEntry
        } else if message.starts_with("pg_hba.conf rejects") {
            AuthRefusal::HbaReject
        } else if message == "connection requires a valid client certificate" {
            AuthRefusal::ClientCertificateRequired
        } else if message.starts_with("certificate authentication failed for user") {
            AuthRefusal::CertificateUser
        } else if message.starts_with("Peer authentication failed for user") {
            AuthRefusal::Peer
        } else if message.starts_with("role ") && message.ends_with(" does not exist") {
            AuthRefusal::NoRole
        } else {
            AuthRefusal::Other
        }
    } else {
        AuthRefusal::Other
    }
}

/// The class of a server's error that ended `stage`: outside a session, whatever says nothing of the server is a refused authentication.
pub(super) fn classify_db_error(error: &DbError, stage: Stage) -> Refusal {
    told(error.code().code(), error.message(), stage)
}

/// The class of what a server told at a stage.
fn told(sqlstate: &str, message: &str, stage: Stage) -> Refusal {
    let other = if stage == Stage::Query { Refusal::Unclassified(stage) } else { Refusal::Auth(classify_fatal(sqlstate, message)) };
    server::class(Some(sqlstate), message).unwrap_or(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_documented_fatal_has_its_class() {
        for (sqlstate, message, class) in [
            (
                "28000",
                "no pg_hba.conf entry for host \"127.0.0.1\", user \"app\", database \"app\", no encryption",
                AuthRefusal::NoHbaEntry,
            ),
            (
                "28000",
                "pg_hba.conf rejects connection for host \"127.0.0.1\", user \"app\", database \"app\", no encryption",
                AuthRefusal::HbaReject,
            ),
            ("28000", "connection requires a valid client certificate", AuthRefusal::ClientCertificateRequired),
            ("28000", "certificate authentication failed for user \"app\"", AuthRefusal::CertificateUser),
            ("F0000", "client certificates can only be checked if a root certificate store is available", AuthRefusal::NoRootStore),
            ("28P01", "password authentication failed for user \"app\"", AuthRefusal::Password),
            ("28000", "Peer authentication failed for user \"app\"", AuthRefusal::Peer),
            ("28000", "role \"nobody\" does not exist", AuthRefusal::NoRole),
            ("3D000", "database \"nowhere\" does not exist", AuthRefusal::NoDatabase),
            ("53300", "sorry, too many clients already", AuthRefusal::Other),
        ] {
            assert_eq!(classify_fatal(sqlstate, message), class, "{message}");
        }
    }

    #[test]
    fn another_text_under_a_known_sqlstate_is_not_taken_for_it() {
        assert_eq!(classify_fatal("F0000", "could not load the server certificate file"), AuthRefusal::Other);
        assert_eq!(classify_fatal("28000", "role \"app\" is not permitted to log in"), AuthRefusal::Other);
        assert_eq!(classify_fatal("28000", "tablespace \"x\" does not exist"), AuthRefusal::Other);
    }

    #[test]
    fn an_error_in_a_session_is_no_refused_authentication_and_a_server_speaks_of_itself_at_any_stage() {
        use model::refusal::EndReason;
        let (sqlstate, message) = ("53300", "sorry, too many clients already");
        assert_eq!(told(sqlstate, message, Stage::Authentication), Refusal::Auth(AuthRefusal::Other));
        assert_eq!(told(sqlstate, message, Stage::Query), Refusal::Unclassified(Stage::Query));
        for stage in [Stage::Authentication, Stage::Query] {
            let ended = told("57P01", "terminating connection due to administrator command", stage);
            assert_eq!(ended, Refusal::Ended(EndReason::AdminShutdown));
        }
    }

    #[test]
    fn a_known_text_under_another_sqlstate_is_not_taken_for_it() {
        assert_eq!(classify_fatal("XX000", "connection requires a valid client certificate"), AuthRefusal::Other);
    }
}
