//! Streaming replication from an installation's PostgreSQL to its replica.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::super::instance::{Place, Placed as _};
use super::super::postgres::admin::Session;
use super::postgres::InstalledPostgres;
use crate::error::{AskError, EnvironmentError};
use crate::{Replication, ReplicationState};
use model::observation::LogLine;

/// How often the replica is asked whether it has a change: far less than a change takes to arrive.
const INTERVAL: Duration = Duration::from_millis(1);

/// How often it is asked for a change that did not arrive within [`SOON`]: several are waited for while the stream is away.
const LATE_INTERVAL: Duration = Duration::from_millis(10);

/// By then a change has arrived where the stream runs.
const SOON: Duration = Duration::from_millis(20);

/// How often a server that is away is looked for.
const AWAY_INTERVAL: Duration = Duration::from_millis(10);

/// How much longer than for a change it is waited for the log to say why it did not arrive. The replica tries anew every tenth of a second;
/// the rest is for a busy machine.
const REASON_LIMIT: Duration = Duration::from_secs(1);

/// A change that is written at once: servers here commit asynchronously, and what is not written yet is not sent.
const CHANGE: [&str; 2] = ["SET synchronous_commit = on", "SELECT pg_logical_emit_message(true, 'mtls-conformance', '')"];

/// The end of the WAL that is written.
const WRITTEN: [&str; 1] = ["SELECT pg_current_wal_flush_lsn()"];

/// What the replica's log puts before the words of its libpq: `streaming replication receiver "NAME" could not connect ...` from 17 on,
/// `could not connect ...` before.
const REFUSED: &str = "could not connect to the primary server: ";

/// A primary and its replica. Both are asked over sessions that stay open, so that asking takes little and leaves nothing in the logs; probes
/// take turns with every question, so that many can be under way.
pub(super) struct StreamingReplication {
    primary: Arc<InstalledPostgres>,
    replica: Arc<InstalledPostgres>,
    primary_session: Mutex<Option<Session>>,
    replica_session: Mutex<Option<Session>>,
}

impl StreamingReplication {
    pub(super) fn new(primary: Arc<InstalledPostgres>, replica: Arc<InstalledPostgres>) -> Self {
        Self { primary, replica, primary_session: Mutex::default(), replica_session: Mutex::default() }
    }

    /// Ends the replica's connection. It opens a new one by itself.
    pub(super) async fn disconnect(&self) -> Result<(), EnvironmentError> {
        self.primary.disconnect_replicas().await
    }

    /// Makes a change and waits for it, for ever if it never arrives: from its commit to its replay.
    async fn change(&self) -> Result<Duration, AskError> {
        let (lsn, committed) = self.commit().await?;
        let arrived = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        loop {
            match ask(&self.replica_session, self.replica.place(), &[&arrived]).await? {
                Some(answer) if answer == "t" => return Ok(committed.elapsed()),
                Some(_) if committed.elapsed() < SOON => tokio::time::sleep(INTERVAL).await,
                Some(_) => tokio::time::sleep(LATE_INTERVAL).await,
                None => tokio::time::sleep(AWAY_INTERVAL).await,
            }
        }
    }

    /// Makes a change; where the WAL ends with it, and when it was committed.
    async fn commit(&self) -> Result<(String, Instant), AskError> {
        let (session, place) = (&self.primary_session, self.primary.place());
        loop {
            if ask(session, place, &CHANGE).await?.is_some() {
                let committed = Instant::now();
                if let Some(lsn) = ask(session, place, &WRITTEN).await? {
                    return Ok((lsn, committed));
                }
            }
            tokio::time::sleep(AWAY_INTERVAL).await;
        }
    }
}

/// The last statement's first value, over a session that is opened where there is none; `None` where the server is away.
async fn ask(session: &Mutex<Option<Session>>, place: &Place, statements: &[&str]) -> Result<Option<String>, AskError> {
    let mut session = session.lock().await;
    let answer = async {
        let session = match &mut *session {
            Some(session) => session,
            None => session.insert(Session::open(place).await?),
        };
        let mut values = Vec::new();
        for statement in statements {
            values = session.ask(statement).await?;
        }
        Ok::<_, AskError>(values.into_iter().next())
    };
    match answer.await {
        Err(error) if error.is_away() => {
            *session = None;
            Ok(None)
        }
        answer => answer,
    }
}

/// Why the replica has no connection, by the last line of its log that says so.
fn refusal(lines: &[LogLine]) -> Option<&str> {
    lines.iter().rev().find_map(|line| line.message.split_once(REFUSED).map(|(_, words)| words))
}

#[async_trait]
impl Replication for StreamingReplication {
    async fn probe(&self, limit: Duration) -> Result<ReplicationState, EnvironmentError> {
        let place = self.replica.place();
        let mark = place.index.mark();
        match tokio::time::timeout(limit, self.change()).await {
            Ok(Ok(took)) => Ok(ReplicationState::Arrived(took)),
            Ok(Err(error)) => Err(EnvironmentError::Replication(error)),
            Err(_) => {
                let lines = place.says_since(mark, &|lines| refusal(lines).is_some(), REASON_LIMIT).await;
                Ok(refusal(&lines).map_or(ReplicationState::Silent, |words| ReplicationState::Refused(words.to_owned())))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> LogLine {
        LogLine { severity: "FATAL".to_owned(), sqlstate: None, message: message.to_owned(), detail: None, peer: None }
    }

    #[test]
    fn the_last_refusal_is_told_in_libpqs_words_on_every_version() {
        let old = "could not connect to the primary server: connection to server at \"127.0.0.1\", port 1 failed: SSL error: tlsv1 alert unknown ca";
        let new = "streaming replication receiver \"nautobot-cluster-2\" could not connect to the primary server: connection to server failed: FATAL:  x";
        assert_eq!(refusal(&[line(new), line(old), line("started streaming WAL")]), old.strip_prefix(REFUSED));
        assert_eq!(refusal(&[line(new)]), Some("connection to server failed: FATAL:  x"));
        assert_eq!(refusal(&[line("could not receive data from WAL stream: server closed the connection unexpectedly")]), None);
    }
}
