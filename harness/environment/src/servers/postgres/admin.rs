//! The harness's own session as superuser, over the private unix socket.

use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::super::instance::Place;
use super::super::{Shared, recipe};
use model::server::Application;

/// The line of pg_hba.conf that lets the harness in. It is for a role of the harness's own: no rule that a client can meet is before or
/// after it.
pub(in super::super) fn rule() -> String {
    format!("local postgres {} trust\n", recipe::ADMIN)
}

/// How long a session that is ended may take for it, in milliseconds: a backend ends at its next look, which idle ones have at once.
const END_LIMIT_MS: u32 = 5000;

/// Gives the prepared user and database `app` the deployment's names, and the user its password.
pub(in super::super) async fn prepare_application(shared: &Shared, place: &Place) -> Result<(), String> {
    let Application { user, database } = shared.options.configurator.application();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    // Written at once: what the server has taken must be there also after it was killed.
    let mut statements = vec!["SET synchronous_commit = on".to_owned()];
    if user != "app" {
        statements.push(format!("ALTER ROLE app RENAME TO {}", quoted(&user)));
    }
    if database != "app" {
        statements.push(format!("ALTER DATABASE app RENAME TO {}", quoted(&database)));
    }
    // Hexadecimal digits only: nothing to quote.
    statements.push(format!("ALTER ROLE {} PASSWORD '{}'", quoted(&user), shared.password.reveal()));
    let limit = shared.options.start_limit;
    ask(place, limit, &statements)
        .await
        .map(drop)
        .map_err(|reason| format!("role {user} could not be given its name and password over the unix socket: {reason}"))
}

/// Ends the sessions of clients, and returns when they have ended. WAL senders and the harness's own sessions stay.
pub(in super::super) async fn end_client_sessions(place: &Place, limit: Duration) -> Result<(), String> {
    let clients = format!("backend_type = 'client backend' AND usename IS DISTINCT FROM '{}'", recipe::ADMIN);
    end_backends(place, limit, &clients).await.map_err(|reason| format!("the sessions of clients could not be ended: {reason}"))
}

/// Ends the WAL senders, and returns when they have ended: their replicas are disconnected, and connect again.
pub(in super::super) async fn end_wal_senders(place: &Place, limit: Duration) -> Result<(), String> {
    let ended = end_backends(place, limit, "backend_type = 'walsender'").await;
    ended.map_err(|reason| format!("the WAL senders could not be ended: {reason}"))
}

/// Ends the backends of which a condition on pg_stat_activity holds.
async fn end_backends(place: &Place, limit: Duration, condition: &str) -> Result<(), String> {
    let end = format!(
        "SELECT pid FROM (SELECT pid, pg_terminate_backend(pid, {END_LIMIT_MS}) AS ended FROM pg_stat_activity \
         WHERE {condition}) AS sessions WHERE NOT ended"
    );
    // Some of these may have gone by themselves meanwhile.
    let unsure = ask(place, limit, &[end]).await?;
    if unsure.is_empty() {
        return Ok(());
    }
    let left = format!("SELECT pid FROM pg_stat_activity WHERE pid IN ({})", unsure.join(", "));
    let left = ask(place, limit, &[left]).await?;
    if left.is_empty() { Ok(()) } else { Err(format!("the backends {} did not end within {END_LIMIT_MS} ms", left.join(", "))) }
}

/// Runs statements one by one; the first column of the last one's rows.
async fn ask(place: &Place, limit: Duration, statements: &[String]) -> Result<Vec<String>, String> {
    let asked = async {
        let session = Session::open(place).await?;
        let mut values = Vec::new();
        for statement in statements {
            values = session.ask(statement).await?;
        }
        session.close().await;
        Ok(values)
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|error: AskError| error.words),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}

/// An open session.
pub(in super::super) struct Session {
    client: tokio_postgres::Client,
    connection: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

/// A server gave no answer.
#[derive(Debug)]
pub(in super::super) struct AskError {
    /// What was tried and found.
    pub(in super::super) words: String,
    /// It is stopped, or about to start or stop; otherwise it has something against the statement.
    pub(in super::super) away: bool,
}

impl Session {
    /// Opens one.
    pub(in super::super) async fn open(place: &Place) -> Result<Self, AskError> {
        let mut config = tokio_postgres::Config::new();
        config.user(recipe::ADMIN).dbname("postgres");
        // A failed statement would be logged with its text.
        config.options("-c log_min_error_statement=panic");
        let socket = place.paths.sockets.join(format!(".s.PGSQL.{}", place.paths.port));
        let stream = place.machine.unix(&socket).await?;
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        Ok(Self { client, connection: tokio::spawn(connection) })
    }

    /// The first column of a statement's rows.
    pub(in super::super) async fn ask(&self, statement: &str) -> Result<Vec<String>, AskError> {
        let rows = self.client.simple_query(statement).await?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Closes it and waits for that. One that is dropped closes too, a little later.
    async fn close(self) {
        drop(self.client);
        // How it ended is of no interest any more.
        let _ = self.connection.await;
    }
}

impl From<std::io::Error> for AskError {
    fn from(error: std::io::Error) -> Self {
        Self { words: format!("its unix socket can't be connected: {error}"), away: true }
    }
}

impl From<tokio_postgres::Error> for AskError {
    fn from(error: tokio_postgres::Error) -> Self {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        // Without a code the server said nothing; 57P01 to 57P03 are said when it stops and starts.
        let away = error.code().is_none_or(|code| code.code().starts_with("57P0"));
        Self { words: format!("{error}{cause}"), away }
    }
}
