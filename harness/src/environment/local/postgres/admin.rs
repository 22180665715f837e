//! The harness's own session as superuser, over the private unix socket.

use std::time::Duration;

use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::super::instance::Place;
use super::super::{Shared, initdb};
use crate::model::server::Application;

/// The line of pg_hba.conf that lets the harness in. It is for a role of the harness's own: no rule that a client can meet is before or
/// after it.
pub(in super::super) fn rule() -> String {
    format!("local postgres {} trust\n", initdb::ADMIN)
}

/// How long a session that is ended may take for it, in milliseconds: a backend ends at its next look, which idle ones have at once.
const END_LIMIT_MS: u32 = 5000;

/// Gives the prepared user and database `app` the deployment's names, and the user its password.
pub(in super::super) async fn prepare_application(shared: &Shared, place: &Place) -> Result<(), String> {
    let Application { user, database } = shared.options.configurator.application();
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let mut statements = Vec::new();
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

/// Ends the sessions of clients, and returns when they have ended. WAL senders and our own session stay.
pub(in super::super) async fn end_client_sessions(place: &Place, limit: Duration) -> Result<(), String> {
    let end = format!(
        "SELECT pid FROM (SELECT pid, pg_terminate_backend(pid, {END_LIMIT_MS}) AS ended FROM pg_stat_activity \
         WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS sessions WHERE NOT ended"
    );
    let failed = |reason| format!("the sessions of clients could not be ended: {reason}");
    // Some of these may have gone by themselves meanwhile.
    let unsure = ask(place, limit, &[end]).await.map_err(failed)?;
    if unsure.is_empty() {
        return Ok(());
    }
    let left = format!("SELECT pid FROM pg_stat_activity WHERE pid IN ({})", unsure.join(", "));
    let left = ask(place, limit, &[left]).await.map_err(failed)?;
    if left.is_empty() { Ok(()) } else { Err(format!("the backends {} did not end within {END_LIMIT_MS} ms", left.join(", "))) }
}

/// Runs statements one by one; the first column of the last one's rows.
async fn ask(place: &Place, limit: Duration, statements: &[String]) -> Result<Vec<String>, String> {
    let mut config = tokio_postgres::Config::new();
    config.host_path(&place.paths.sockets).port(place.paths.port).user(initdb::ADMIN).dbname("postgres");
    // A failed statement would be logged with its text.
    config.options("-c log_min_error_statement=panic").connect_timeout(limit);
    let session = async {
        let (client, connection) = config.connect(NoTls).await?;
        let connection = tokio::spawn(connection);
        let mut values = Vec::new();
        for statement in statements {
            let rows = client.simple_query(statement).await?.into_iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            });
            values = rows.collect();
        }
        drop(client);
        let _ = connection.await;
        Ok::<_, tokio_postgres::Error>(values)
    };
    match tokio::time::timeout(limit, session).await {
        Ok(Ok(values)) => Ok(values),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Err(format!("{error}{cause}"))
        }
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
