//! What a PostgreSQL says of its settings and rules, over the harness's own session.

use std::time::Duration;

use super::super::evidence::{not_asked, of_text};
use super::super::instance::Place;
use super::admin::Session;
use crate::EvidenceFile;
use crate::error::AskError;

/// How long all questions may take: a server that hangs is not to hold up the next case.
const LIMIT: Duration = Duration::from_secs(2);

/// A file for each view, a line of JSON for each row (PostgreSQL manual, "System Views"). Of the settings those that something has set, and
/// all that have to do with connections and authentication; not those of the session that asks.
const VIEWS: [(&str, &str); 3] = [
    (
        "pg_settings.jsonl",
        "SELECT to_json(row) FROM (SELECT name, setting, unit, source, sourcefile, sourceline, pending_restart FROM pg_settings \
         WHERE source NOT IN ('default', 'client', 'user', 'session') OR category LIKE 'Connections and Authentication%' ORDER BY name) row",
    ),
    ("pg_hba_file_rules.jsonl", "SELECT to_json(row) FROM pg_hba_file_rules row"),
    ("pg_ident_file_mappings.jsonl", "SELECT to_json(row) FROM pg_ident_file_mappings row"),
];

/// What an open session is told.
pub(in super::super) async fn ask(session: &Session) -> Vec<EvidenceFile> {
    given(tokio::time::timeout(LIMIT, views(session)).await.unwrap_or(Err(AskError::Silent(LIMIT))))
}

/// The same over a session of its own.
pub(in super::super) async fn open_and_ask(place: &Place) -> Vec<EvidenceFile> {
    let asked = async { views(&Session::open(place).await?).await };
    given(tokio::time::timeout(LIMIT, asked).await.unwrap_or(Err(AskError::Silent(LIMIT))))
}

async fn views(session: &Session) -> Result<Vec<EvidenceFile>, AskError> {
    let mut files = Vec::new();
    for (name, statement) in VIEWS {
        let lines: String = session.ask(statement).await?.into_iter().map(|line| line + "\n").collect();
        files.push(of_text(name, &lines));
    }
    Ok(files)
}

fn given(asked: Result<Vec<EvidenceFile>, AskError>) -> Vec<EvidenceFile> {
    asked.unwrap_or_else(|error| vec![not_asked("its settings and rules", error)])
}
