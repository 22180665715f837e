//! A session with PostgreSQL once it is established: queries, until it is closed.

use async_trait::async_trait;
use tokio_postgres::{Client, Connection, SimpleQueryMessage, SimpleQueryRow};

use super::classify::classify_db_error;
use super::startup::Watched;
use crate::held::{Background, LibrarySession};
use crate::tls::classify_io;
use model::causes::with_causes;
use model::observation::{Refused, ServerView};
use model::refusal::{Refusal, Stage};

/// The session as the server sees it, in one round trip.
const SERVER_VIEW: &str = "SELECT ssl, version, cipher, client_dn, client_serial::text, issuer_dn, current_user \
                           FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// The client half of tokio-postgres, which sends queries, and the half that moves their bytes.
pub(super) struct PostgresSession {
    client: Client,
    connection: Background<Result<(), tokio_postgres::Error>>,
}

impl PostgresSession {
    pub(super) fn new(client: Client, connection: Connection<Watched, Watched>) -> Self {
        Self { client, connection: Background::new(connection) }
    }

    /// Asks for the server's view.
    pub(super) async fn server_view(&mut self) -> Result<ServerView, Refused> {
        let messages = self.query(SERVER_VIEW).await?;
        let row = messages.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let text = |row: &SimpleQueryRow, column| row.get(column).map(str::to_owned);
        row.map(|row| ServerView {
            ssl: row.get("ssl") == Some("t"),
            version: text(row, "version"),
            cipher: text(row, "cipher"),
            client_dn: text(row, "client_dn"),
            client_serial: text(row, "client_serial"),
            issuer_dn: text(row, "issuer_dn"),
            user: text(row, "current_user"),
        })
        .ok_or_else(|| refused(Refusal::Unclassified(Stage::Query), "pg_stat_ssl has no row for this session".to_owned()))
    }

    async fn query(&mut self, sql: &str) -> Result<Vec<SimpleQueryMessage>, Refused> {
        let (answer, end) = self.connection.drive(self.client.simple_query(sql)).await;
        answer.map_err(|error| match end {
            // The query's own error is then only that the connection is closed. The connection's tells why, above all in the server's words
            // where it had ended the session before the query was sent.
            Some(Err(end)) if error.as_db_error().is_none() => query_failure(&end),
            _ => query_failure(&error),
        })
    }
}

#[async_trait]
impl LibrarySession for PostgresSession {
    async fn query(&mut self) -> Result<(), Refused> {
        self.query("SELECT 1").await.map(drop)
    }

    async fn close(self) {
        // Without its client the connection sends Terminate and closes.
        drop(self.client);
        self.connection.end().await;
    }
}

fn query_failure(error: &tokio_postgres::Error) -> Refused {
    let refusal = match error.as_db_error() {
        Some(error) => classify_db_error(error, Stage::Query),
        None => classify_protocol_error(error, Stage::Query),
    };
    let sqlstate = error.code().map(|code| code.code().to_owned());
    Refused { sqlstate, ..refused(refusal, format!("query: {}", with_causes(error))) }
}

/// The class of an error that ended `stage`, and is none of the server's.
pub(super) fn classify_protocol_error(error: &tokio_postgres::Error, stage: Stage) -> Refusal {
    if error.is_closed() {
        return Refusal::Closed(stage);
    }
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    cause.map_or(Refusal::Unclassified(stage), |cause| classify_io(cause, stage))
}

fn refused(refusal: Refusal, text: String) -> Refused {
    Refused { refusal, stage: Some(Stage::Query), sqlstate: None, text }
}
