//! The harness's own session, over the private unix socket.

use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::super::data_directory;
use super::super::instance::Place;
use super::super::shared::Shared;
use crate::error::{AdminError, AskError};
use model::server::Application;

/// The lines of pg_hba.conf that let the harness in, and nobody over the network who says to be it. They are for a role of the harness's
/// own: no rule that a client can meet is before or after them.
pub(in super::super) fn rules() -> String {
    let admin = data_directory::ADMIN;
    format!("local postgres {admin} trust\nhost all {admin} all reject\n")
}

/// Whether the harness asks a server again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Later {
    /// Its own rules stay before the deployment's.
    Asks,
    /// Nobody is to log in as its role any more, whatever the rules.
    Never,
}

/// How long a session that is ended may take for it, in milliseconds: a backend ends at its next look, which idle ones have at once.
const END_LIMIT_MS: u32 = 5000;

/// Gives the prepared user and database `app` the deployment's names, and the user its password. It can be done once. The session that did it
/// stays open as long as it is held, also where nobody can log in like that any more.
pub(in super::super) async fn prepare_application(shared: &Shared, place: &Place, later: Later) -> Result<Session, AdminError> {
    let Application { user, database } = shared.options.configurator.application();
    let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
    let (login, db, secret) = (quoted(&user), quoted(&database), quoted(shared.password.reveal()));
    let statements = [
        // Written at once: what the server has taken must be there also after it was killed.
        "SET synchronous_commit = on".to_owned(),
        format!("SELECT {}({login}, {db}, {secret}, {})", data_directory::PREPARE, later == Later::Asks),
    ];
    let limit = shared.options.start_limit;
    let prepared = async {
        let session = Session::open(place).await?;
        for statement in &statements {
            session.ask(statement).await?;
        }
        Ok(session)
    };
    let prepared = tokio::time::timeout(limit, prepared).await.unwrap_or(Err(AskError::Silent(limit)));
    prepared.map_err(|source| AdminError::Application { user, source })
}

/// Ends the sessions of clients, and returns when they have ended. WAL senders and the harness's own sessions stay.
pub(in super::super) async fn end_client_sessions(place: &Place, limit: Duration) -> Result<(), AdminError> {
    let clients = format!("backend_type = 'client backend' AND usename IS DISTINCT FROM '{}'", data_directory::ADMIN);
    end_backends(place, limit, &clients).await.map_err(AdminError::Sessions)
}

/// Ends the WAL senders, and returns when they have ended: their replicas are disconnected, and connect again.
pub(in super::super) async fn end_wal_senders(place: &Place, limit: Duration) -> Result<(), AdminError> {
    end_backends(place, limit, "backend_type = 'walsender'").await.map_err(AdminError::WalSenders)
}

/// Ends the backends of which a condition on pg_stat_activity holds.
async fn end_backends(place: &Place, limit: Duration, condition: &str) -> Result<(), AskError> {
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
    if left.is_empty() { Ok(()) } else { Err(AskError::Backends { pids: left.join(", "), limit_ms: END_LIMIT_MS }) }
}

/// Runs statements one by one; the first column of the last one's rows.
async fn ask(place: &Place, limit: Duration, statements: &[String]) -> Result<Vec<String>, AskError> {
    let asked = async {
        let session = Session::open(place).await?;
        let mut values = Vec::new();
        for statement in statements {
            values = session.ask(statement).await?;
        }
        session.close().await;
        Ok(values)
    };
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(AskError::Silent(limit)))
}

/// A session as [`data_directory::ADMIN`], and the task that carries it.
pub(in super::super) struct Session {
    client: tokio_postgres::Client,
    connection: tokio::task::JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// Opens one to a server that listens.
    pub(in super::super) async fn open(place: &Place) -> Result<Self, AskError> {
        let mut config = tokio_postgres::Config::new();
        config.user(data_directory::ADMIN).dbname("postgres");
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
