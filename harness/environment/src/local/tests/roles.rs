//! Who can log in while everybody is trusted, and what he can do then.

use tokio_postgres::error::SqlState;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::*;

/// Rules under which everybody is whoever he says to be.
const TRUST: [&str; 3] = ["local all all trust", "host all all all trust", "host replication all all trust"];

/// The harness's own role.
const ADMIN: &str = "mtls_conformance";

/// A session over loopback without TLS.
struct Stranger(tokio_postgres::Client);

impl Stranger {
    async fn log_in(address: SocketAddr, user: &str) -> Result<Self, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.user(user).dbname("postgres").host(address.ip().to_string()).port(address.port());
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(Self(client))
    }

    /// The first column of what a statement gives.
    async fn ask(&self, statement: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let rows = self.0.simple_query(statement).await?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    }
}

/// What only a superuser may do, each another way to files or programs of the server's user.
const POWERS: [&str; 6] = [
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY (SELECT 1) TO '/dev/null'",
    "SELECT pg_read_file('PG_VERSION')",
    "SELECT lo_export(lo_from_bytea(0, ''), '/dev/null')",
    "SET ROLE mtls_conformance_owner",
    "SELECT public.mtls_conformance_prepare('app', 'app', 'mine', true)",
];

/// Logs in as every role there is; `barred` are those that must be refused, with what the server says of it.
async fn assert_nobody_has_power(address: SocketAddr, barred: &[(&str, &str)]) {
    let postgres = Stranger::log_in(address, "postgres").await.expect("the rules let everybody in");
    assert_eq!(postgres.ask("SHOW is_superuser").await.expect("it answers"), ["off"]);
    let superusers = postgres.ask("SELECT rolname FROM pg_roles WHERE rolsuper").await.expect("names are no secret");
    assert_eq!(superusers, ["mtls_conformance_owner"]);
    for (role, said) in barred {
        let error = Stranger::log_in(address, role).await.err().unwrap_or_else(|| panic!("{role} logs in"));
        let error = error.as_db_error().expect("the server's own words").message();
        assert!(error.contains(said), "{role}: {error}");
    }
    let ordinary = "SELECT rolname FROM pg_roles WHERE rolcanlogin AND rolname <> 'mtls_conformance' ORDER BY rolname";
    let ordinary = postgres.ask(ordinary).await.expect("names are no secret");
    assert_eq!(ordinary, ["app", "postgres", "streaming_replica"]);
    for role in ordinary {
        let session = Stranger::log_in(address, &role).await.expect("the rules let everybody in");
        for statement in POWERS {
            let error = session.ask(statement).await.expect_err(statement);
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{role}: {statement}: {error:?}");
        }
    }
}

const NO_LOG_IN: &str = "is not permitted to log in";

#[tokio::test(flavor = "multi_thread")]
async fn under_trust_nobody_is_a_superuser_on_a_server_that_cases_share() {
    let fixture = Fixture::new();
    for build in toolchain().postgres {
        let server = fixture.environment.server(postgres_key(build.major)).await.expect("it starts");
        let config = ServerConfig { pg_hba: Some(TRUST.map(str::to_owned).to_vec()), ..ServerConfig::default() };
        server.apply(&config).await.expect("it reloads");
        assert_nobody_has_power(server.address(), &[("mtls_conformance_owner", NO_LOG_IN), (ADMIN, NO_LOG_IN)]).await;
    }
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn under_trust_nobody_is_a_superuser_or_the_harness_on_a_timelines_server() {
    let fixture = Fixture::with(|options, _| options.template = Some(installation::template()));
    let mut options = installation::options(postgres_key(any_major()));
    options.config.pg_hba = Some(TRUST.map(str::to_owned).to_vec());
    options.with.push(model::change::Target::Replica);
    let installation = fixture.environment.install(&options).await.expect("it is installed");
    // The replica has what the primary has.
    let probe = installation.replication().expect("it has one").probe(Duration::from_secs(10)).await.expect("both answer");
    assert!(matches!(probe, crate::ReplicationState::Arrived(_)), "{probe:?}");
    for target in [model::change::Target::Postgres, model::change::Target::Replica] {
        let address = installation.server(target).expect("it has one").address();
        let barred = [("mtls_conformance_owner", NO_LOG_IN), (ADMIN, "pg_hba.conf rejects connection")];
        assert_nobody_has_power(address, &barred).await;
    }
    installation.close().await;
    fixture.environment.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_data_directory_of_another_user_is_not_used() {
    if !nix::unistd::geteuid().is_root() {
        // Nobody else can give a directory away.
        return;
    }
    let cache = tempfile::tempdir().expect("a directory");
    let fixture = || Fixture::with(|options, _| options.cache_directory = cache.path().to_path_buf());
    let key = postgres_key(any_major());
    let first = fixture();
    first.environment.server(key).await.expect("it starts");
    first.environment.close().await;
    let prepared = std::fs::read_dir(cache.path()).expect("there").flatten().map(|entry| entry.path()).find(|path| path.is_dir());
    std::os::unix::fs::chown(prepared.expect("it was kept"), Some(65_534), Some(65_534)).expect("root gives away");
    let second = fixture();
    let error = second.environment.server(key).await.err().expect("it could hold anything").to_string();
    assert!(error.contains("it belongs to user 65534"), "{error}");
}
