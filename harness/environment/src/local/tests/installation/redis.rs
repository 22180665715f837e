//! Redis.

use super::*;

/// What Redis shows to a new connection and answers to AUTH and PING.
pub(super) async fn ping(installation: &Arc<dyn Installation>) -> Result<String, ClientError> {
    Connection::open(installation).await.map(|connection| connection.shown)
}

/// A connection that is kept.
struct Connection {
    stream: tokio_rustls::client::TlsStream<TcpStream>,
    shown: String,
}

impl Connection {
    async fn open(installation: &Arc<dyn Installation>) -> Result<Self, ClientError> {
        let server = installation.server(Target::Redis).expect("a Redis");
        let shown = Shown::default();
        let stream = TcpStream::connect(server.address()).await?;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(shown.config(&client_pair(installation))));
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = connector.connect(name, stream).await?;
        let mut connection = Self { stream, shown: String::new() };
        connection.ask(&format!("AUTH {}", server.password().reveal()), "+OK").await?;
        connection.ask("PING", "+PONG").await?;
        connection.shown = shown.sha256().expect("a certificate");
        Ok(connection)
    }

    async fn ask(&mut self, command: &str, expected: &str) -> Result<(), ClientError> {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        self.stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut buffer = [0; 256];
        let read = self.stream.read(&mut buffer).await?;
        let answer = String::from_utf8_lossy(&buffer[..read]).into_owned();
        if answer.trim() == expected { Ok(()) } else { Err(ClientError::Answer { command: command.to_owned(), answer }) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn renewed_files_are_shown_after_config_set_and_not_before_and_open_connections_stay() {
    let fixture = fixture();
    let installation = install(&fixture, redis_key()).await;
    let first = sha256(&installation, REDIS_SERVER);
    let mut open = Connection::open(&installation).await.expect("a connection");
    assert_eq!(open.shown, first);
    apply(&installation, [rekey(REDIS_SERVER), Change::Sync(Target::Redis)]).await;
    assert_eq!(ping(&installation).await.expect("a connection"), first);
    apply(&installation, [Change::Reload(Target::Redis)]).await;
    assert_eq!(ping(&installation).await.expect("a connection"), sha256(&installation, REDIS_SERVER));
    open.ask("PING", "+PONG").await.expect("the connection from before is there");
    apply(&installation, [Change::Disconnect(Target::Redis)]).await;
    open.ask("PING", "+PONG").await.expect_err("ended");
    ping(&installation).await.expect("a new one");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_key_is_refused_at_config_set_and_at_start_and_the_old_one_goes_on_meanwhile() {
    let fixture = fixture();
    let installation = install(&fixture, redis_key()).await;
    let (address, first) = (installation.server(Target::Redis).expect("a Redis").address(), sha256(&installation, REDIS_SERVER));
    let bad = overwrite(REDIS_SERVER, SecretFile::Key, Content::Secret(CLIENT.to_owned()));
    apply(&installation, [renew(REDIS_SERVER), bad, Change::Sync(Target::Redis)]).await;
    let said = objection(&installation, Change::Reload(Target::Redis)).await;
    assert!(said.contains("Unable to update TLS configuration") && said.contains("Failed to load private key"), "{said}");
    assert_eq!(ping(&installation).await.expect("the old context"), first);
    let said = objection(&installation, Change::Restart(Target::Redis)).await;
    assert!(said.contains("Failed to load private key") && !said.contains(":M "), "{said}");
    let refused = ping(&installation).await.expect_err("nobody listens");
    assert!(refused.contains("refused"), "{refused}");
    apply(&installation, [renew(REDIS_SERVER), Change::Sync(Target::Redis), Change::Start(Target::Redis)]).await;
    assert_eq!(installation.server(Target::Redis).expect("a Redis").address(), address);
    assert_eq!(ping(&installation).await.expect("a connection"), sha256(&installation, REDIS_SERVER));
    apply(&installation, [Change::Stop(Target::Redis), Change::Start(Target::Redis)]).await;
    ping(&installation).await.expect("a connection");
    installation.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_postgresql_has_is_an_error_that_says_so() {
    let fixture = fixture();
    let installation = install(&fixture, redis_key()).await;
    assert!(error(&installation, Change::PgHba(Vec::new())).await.contains("only PostgreSQL"));
    assert!(error(&installation, Change::DropCrl).await.contains("only PostgreSQL"));
    assert!(error(&installation, Change::Reconcile).await.contains("no Cluster"));
    assert!(installation.server(Target::Postgres).is_none());
    let socket = installation.server(Target::Redis).expect("a Redis").unix_socket();
    assert!(matches!(socket, Ok(None)), "the harness's own socket is for nobody else");
    installation.close().await;
}
