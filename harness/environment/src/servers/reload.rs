//! What a PostgreSQL says to a SIGHUP.
//!
//! The postmaster handles it in one go: it logs each changed parameter, then, where something is wrong, that the configuration file
//! `contains errors`, that pg_hba.conf, pg_ident.conf or the SSL configuration `was not reloaded`, and only then accepts the next
//! connection (process_pm_reload_request in src/backend/postmaster/postmaster.c). So: wait for the line of a parameter of ours that
//! every reload changes, connect once, and wait for that connection's own line. What lies between is everything that was to be said, and
//! from then on new connections see the new configuration. No sleep is needed.

use std::sync::Arc;

use super::instance::Place;
use crate::error::ConfigureCause;
use model::observation::LogLine;
use serverlog::quote;

/// The parameter that counts the configurations.
pub(super) const GENERATION: &str = "mtls_conformance.generation";

/// Waits until the reload is over; for ever, if the log says nothing of it. What the server says against its files, if it goes on with what
/// it had.
///
/// # Errors
/// [`ConfigureCause::NoConnection`]: nothing is known of the reload.
pub(super) async fn taken(place: &Place, mark: u64, generation: u64) -> Result<Option<String>, ConfigureCause> {
    let changed = format!("parameter \"{GENERATION}\" changed to \"{generation}\"");
    let heard = |lines: &[LogLine]| {
        // With a syntax error nothing is applied, so our parameter doesn't change either.
        lines.iter().any(|line| line.message == changed || line.contains("contains errors")).then_some(())
    };
    place.index.find_since(mark, heard).await;
    let address = place.address();
    let probe = place.machine.dialer().dial(address, None).await;
    let probe = probe.map_err(|error| ConfigureCause::NoConnection { address, source: Arc::new(error) })?;
    Ok(objections(&place.index.server_lines_before(mark, probe.client).await))
}

/// What the lines of a reload say against it; `None` if it was taken.
fn objections(lines: &[LogLine]) -> Option<String> {
    let refused = |line: &LogLine| line.contains("contains errors") || line.message.ends_with("was not reloaded");
    if !lines.iter().any(refused) {
        return None;
    }
    let routine = |line: &LogLine| {
        line.message.starts_with("received SIGHUP")
            || (line.message.starts_with("parameter \"") && (line.contains("\" changed to \"") || line.contains("reset to default")))
    };
    Some(lines.iter().filter(|line| !routine(line)).map(quote).collect::<Vec<_>>().join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[(&str, Option<&str>)]) -> Vec<LogLine> {
        let line = |(message, detail): &(&str, Option<&str>)| LogLine {
            severity: "LOG".to_owned(),
            sqlstate: None,
            message: (*message).to_owned(),
            detail: detail.map(str::to_owned),
            peer: None,
        };
        texts.iter().map(line).collect()
    }

    // Messages of real servers.

    #[test]
    fn a_clean_reload_has_no_objections() {
        let clean = lines(&[
            ("received SIGHUP, reloading configuration files", None),
            ("parameter \"ssl\" removed from configuration file, reset to default", None),
            ("parameter \"mtls_conformance.generation\" changed to \"2\"", None),
        ]);
        assert_eq!(objections(&clean), None);
    }

    #[test]
    fn a_bad_rule_is_quoted_with_its_place_on_15() {
        let bad = lines(&[
            ("received SIGHUP, reloading configuration files", None),
            ("parameter \"mtls_conformance.generation\" changed to \"3\"", None),
            ("invalid connection type \"bad\"", Some("line 3 of configuration file \"/run/data/pg_hba.conf\"")),
            ("pg_hba.conf was not reloaded", None),
        ]);
        let reason = objections(&bad).expect("an objection");
        assert_eq!(
            reason,
            "LOG: invalid connection type \"bad\" (line 3 of configuration file \"/run/data/pg_hba.conf\")\nLOG: pg_hba.conf was not reloaded"
        );
    }

    #[test]
    fn a_bad_rule_is_noticed_on_18_which_names_the_whole_path() {
        let bad = lines(&[
            ("received SIGHUP, reloading configuration files", None),
            ("/run/data/pg_hba.conf was not reloaded", None),
            ("parameter \"mtls_conformance.generation\" changed to \"3\"", None),
        ]);
        assert!(objections(&bad).is_some());
    }

    #[test]
    fn a_certificate_that_cannot_be_loaded_is_an_objection() {
        let bad = lines(&[
            ("received SIGHUP, reloading configuration files", None),
            ("could not load server certificate file \"/run/srv.crt\": no start line", None),
            ("SSL configuration was not reloaded", None),
        ]);
        assert!(objections(&bad).expect("an objection").contains("no start line"));
    }

    #[test]
    fn a_parameter_that_needs_a_restart_is_an_objection() {
        let bad = lines(&[
            ("parameter \"mtls_conformance.generation\" changed to \"3\"", None),
            ("parameter \"port\" cannot be changed without restarting the server", None),
            ("configuration file \"/run/data/harness.conf\" contains errors; unaffected changes were applied", None),
        ]);
        assert!(objections(&bad).expect("an objection").contains("cannot be changed without restarting"));
    }
}
