//! The driver against small shell programs that behave and misbehave.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Instant;

use super::*;
use crate::error::{ExchangeError, GreetingError, StartError};
use crate::{HeldSession, Queried};
use model::connect::{ClientFiles, Password, PostgresRequest};
use model::endpoint::Endpoint;
use model::refusal::{Alert, AuthRefusal, EndReason, Refusal};

const HELLO: &str =
    r#"echo '{"hello":{"protocol":1,"driver":{"name":"fake","service":"postgres","family":"libpq","version":"fake 1"},"concurrency":2}}'"#;

/// Reads requests; `$id` and `$line` are at the body's disposal.
fn serving(body: &str) -> String {
    format!("{HELLO}\nwhile read -r line; do id=${{line#*:}}; id=${{id%%,*}}\n{body}\ndone\n")
}

const REFUSED: &str =
    r#"echo "{\"id\":$id,\"result\":{\"refused\":{\"text\":\"SSL error: tlsv1 alert unknown ca\",\"stage\":\"post-handshake\"}}}""#;

struct Fake {
    directory: tempfile::TempDir,
    program: Program,
}

impl Fake {
    fn new(script: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let args = ["-c".into(), script.into()];
        let mut program = Program::new(std::path::Path::new("/bin/sh"), &args, "fake", directory.path()).expect("a home");
        program.limits.hello = Duration::from_secs(10);
        Self { directory, program }
    }

    async fn start(&self) -> Result<ExecDriver, DriverError> {
        ExecDriver::start(self.program.clone()).await
    }

    async fn started(&self) -> ExecDriver {
        self.start().await.expect("a driver")
    }

    async fn start_reason(&self) -> String {
        match self.start().await {
            Err(DriverError::Start { driver, source }) => {
                assert_eq!(driver, "fake");
                source.to_string()
            }
            Err(other) => panic!("another error: {other}"),
            Ok(_) => panic!("it started"),
        }
    }
}

fn request(database: &str) -> ConnectRequest {
    ConnectRequest::Postgres(PostgresRequest {
        endpoint: Endpoint { host: "pg.example".to_owned(), address: Address::Tcp(([127, 0, 0, 1], 5432).into()) },
        sslmode: None,
        sslnegotiation: None,
        files: ClientFiles::default(),
        user: "app".to_owned(),
        database: database.to_owned(),
        password: Some(Password::new("correct horse")),
        min_tls: None,
        max_tls: None,
        alpn: None,
        replication: false,
        env: BTreeMap::new(),
    })
}

const LIMIT: Duration = Duration::from_secs(10);

async fn ask(driver: &ExecDriver, database: &str) -> Result<Refusal, DriverError> {
    let observation = driver.connect(&request(database), LIMIT).await?;
    match observation.outcome {
        ClientOutcome::Refused(refused) => Ok(refused.refusal),
        ClientOutcome::Session(session) => panic!("a session: {session:?}"),
    }
}

fn broken(result: Result<Refusal, DriverError>) -> String {
    match result {
        Err(DriverError::Broken { source, .. }) => source.to_string(),
        other => panic!("not broken: {other:?}"),
    }
}

#[tokio::test]
async fn a_refusal_is_classified_by_the_programs_family() {
    let fake = Fake::new(&serving(REFUSED));
    let driver = fake.started().await;
    assert_eq!(driver.info().version, "fake 1");
    assert_eq!(ask(&driver, "d").await.expect("an observation"), Refusal::Alert(Alert::UnknownCa));
    driver.close().await;
    assert!(broken(ask(&driver, "d").await).contains("closed already"));
}

#[tokio::test]
async fn answers_find_their_requests_in_any_order() {
    // Answers two requests at once, the second first, each with its database's name.
    let answer = r#"{\"id\":$1,\"result\":{\"refused\":{\"text\":\"FATAL:  $2\",\"stage\":\"authentication\"}}}"#;
    let script = format!(
        "{HELLO}\nanswer() {{ echo \"{answer}\"; }}\nnext() {{ read -r line || exit 0; id=${{line#*:}}; id=${{id%%,*}}; \
         case $line in *'\"one\"'*) text='password authentication failed for user x';; *) text='connection requires a valid client certificate';; esac; }}\n\
         while :; do next; id1=$id; text1=$text; next; answer \"$id\" \"$text\"; answer \"$id1\" \"$text1\"; done\n"
    );
    let fake = Fake::new(&script);
    let driver = fake.started().await;
    let (one, two) = tokio::join!(ask(&driver, "one"), ask(&driver, "two"));
    assert_eq!(one.expect("an observation"), Refusal::Auth(AuthRefusal::Password));
    assert_eq!(two.expect("an observation"), Refusal::Auth(AuthRefusal::ClientCertificateRequired));
    driver.close().await;
}

#[tokio::test]
async fn no_more_requests_are_in_flight_than_the_program_announced() {
    // Answers the first two together; a third in flight by then would be told as another text.
    let fake = Fake::new(&format!(
        "{HELLO}\nread -r a; read -r b\nif read -r -t 0.3 c 2>/dev/null; then echo 'too many'; fi\n\
         for id in 0 1; do {REFUSED}; done\nread -r c; id=2; {REFUSED}\nread -r d\n"
    ));
    // `read -t` is not POSIX: the shell must have it for this test to be able to fail.
    let mut program = fake.program.clone();
    program.program = "/bin/bash".into();
    let driver = ExecDriver::start(program).await.expect("a driver");
    let (one, two, three) = tokio::join!(ask(&driver, "1"), ask(&driver, "2"), ask(&driver, "3"));
    for result in [one, two, three] {
        assert_eq!(result.expect("an observation"), Refusal::Alert(Alert::UnknownCa));
    }
    driver.close().await;
}

#[tokio::test]
async fn a_program_that_ends_breaks_its_requests_with_its_status_and_log() {
    let fake = Fake::new(&serving(&format!("case $line in *crash*) echo 'no more ideas' >&2; exit 7;; esac\n{REFUSED}")));
    let driver = fake.started().await;
    ask(&driver, "d").await.expect("an observation");
    let error = ask(&driver, "crash").await.expect_err("it ends");
    let text = error.to_string();
    assert!(text.contains("exit status: 7") && text.contains("no more ideas") && text.contains("fake.log"), "{text}");
    let DriverError::Broken { source, .. } = error else { panic!("not broken: {error:?}") };
    let BrokenError::Ended { source: ExchangeError::OutputClosed, end } = &*source else { panic!("another cause: {source:?}") };
    assert_eq!((end.status.and_then(|status| status.code()), end.tail.as_str()), (Some(7), "no more ideas"));
    // It had answered before: it is started again.
    assert_eq!(ask(&driver, "d").await.expect("an observation"), Refusal::Alert(Alert::UnknownCa));
    driver.close().await;
}

#[tokio::test]
async fn a_program_that_ends_without_any_answer_is_not_started_again() {
    let fake = Fake::new(&format!("echo started >> \"$HOME/../starts\"\n{}", serving("exit 7")));
    let driver = fake.started().await;
    let first = broken(ask(&driver, "d").await);
    let second = broken(ask(&driver, "d").await);
    assert_eq!(first, second);
    let starts = std::fs::read_to_string(fake.directory.path().join("starts")).expect("the file");
    assert_eq!(starts.lines().count(), 1);
}

#[tokio::test]
async fn a_line_that_is_no_answer_breaks_the_program_and_shows_no_password() {
    let fake = Fake::new(&serving("echo \"you said $line\""));
    let driver = fake.started().await;
    let reason = broken(ask(&driver, "d").await);
    assert!(reason.contains("no answer") && reason.contains("you said"), "{reason}");
    assert!(reason.contains("***") && !reason.contains("correct horse"), "{reason}");
}

#[tokio::test]
async fn a_log_that_names_the_password_is_shown_without_it() {
    let fake = Fake::new(&serving("echo \"got $line\" >&2; exit 7"));
    let driver = fake.started().await;
    let reason = broken(ask(&driver, "d").await);
    assert!(reason.contains("got") && reason.contains("***") && !reason.contains("correct horse"), "{reason}");
}

#[tokio::test]
async fn an_answer_to_nothing_breaks_the_program() {
    let fake = Fake::new(&serving(&REFUSED.replace("$id", "99")));
    let driver = fake.started().await;
    assert!(broken(ask(&driver, "d").await).contains("request 99"));
}

#[tokio::test]
async fn a_program_that_hangs_is_told_from_one_that_breaks_and_is_replaced() {
    let mut fake = Fake::new(&serving(&format!("case $line in *hang*) continue;; esac\n{REFUSED}")));
    fake.program.limits.grace = Duration::from_millis(50);
    let driver = fake.started().await;
    ask(&driver, "d").await.expect("an observation");
    let connection = driver.connection().await.expect("a program");
    let hang = |database: &'static str| {
        let connection = Arc::clone(&connection);
        async move { connection.request(Operation::Connect(request(database)), Duration::from_millis(50)).await }
    };
    assert!(matches!(hang("hang").await, Ok(None)));
    assert_eq!(ask(&driver, "d").await.expect("the other slot serves"), Refusal::Alert(Alert::UnknownCa));
    assert!(matches!(hang("hang").await, Ok(None)));
    // Both slots hang: the next request gets a new program, and does not wait for a slot for ever.
    let mut result = ask(&driver, "d").await;
    if matches!(&result, Err(DriverError::Broken { .. })) {
        // It was in line for a slot of the old one.
        result = ask(&driver, "d").await;
    }
    assert_eq!(result.expect("an observation"), Refusal::Alert(Alert::UnknownCa));
    driver.close().await;
}

#[tokio::test]
async fn an_unable_program_and_a_failed_one_are_errors_of_the_driver() {
    let fake = Fake::new(&serving(
        r#"case $line in *alpn*) echo "{\"id\":$id,\"result\":{\"error\":\"it burns\"}}";; *) echo "{\"id\":$id,\"result\":{\"unable\":\"no TLS here\"}}";; esac"#,
    ));
    let driver = fake.started().await;
    match driver.connect(&request("d"), LIMIT).await {
        Err(DriverError::Unable { source, .. }) => assert_eq!(source, UnableError::Reported("no TLS here".to_owned())),
        other => panic!("{other:?}"),
    }
    assert_eq!(broken(ask(&driver, "alpn").await), "it burns");
    driver.close().await;
}

#[tokio::test]
async fn a_timeout_that_the_program_tells_is_an_observation() {
    let fake = Fake::new(&serving(r#"echo "{\"id\":$id,\"result\":{\"timed-out\":{\"text\":\"\",\"stage\":\"ssl-request\"}}}""#));
    let driver = fake.started().await;
    assert_eq!(ask(&driver, "d").await.expect("an observation"), Refusal::TimedOut(Stage::SslRequest));
    driver.close().await;
}

#[tokio::test]
async fn a_client_that_tells_no_stage_gets_it_from_a_plaintext_request() {
    let closed = r#"echo "{\"id\":$id,\"result\":{\"refused\":{\"text\":\"server closed the connection unexpectedly\"}}}""#;
    let fake = Fake::new(&serving(closed));
    let driver = fake.started().await;
    assert_eq!(ask(&driver, "d").await.expect("an observation"), Refusal::Closed(Stage::SslRequest));
    let mut plaintext = request("d");
    if let ConnectRequest::Postgres(request) = &mut plaintext {
        request.sslmode = Some(SslMode::Disable);
    }
    let observation = driver.connect(&plaintext, LIMIT).await.expect("an observation");
    let ClientOutcome::Refused(refused) = observation.outcome else { panic!("a session") };
    assert_eq!(refused.refusal, Refusal::Closed(Stage::Authentication));
    driver.close().await;
}

/// A program that keeps sessions, and makes one connection at a time: it opens any session, and `query` is what it does about queries.
fn keeping(query: &str) -> String {
    let hello = HELLO.replace(r#""concurrency":2"#, r#""concurrency":1,"sessions":true"#);
    let result = r#"result() { printf '{"id":%s,"result":%s}\n' "$id" "$1"; }"#;
    let opened = r#"{"observation":{"outcome":{"session":{"tls":false}},"phases":{}}}"#;
    let body = format!(
        r#"case $line in
        *'"open":'*) result '{opened}';;
        *'"query":'*) {query};;
        *'"close":'*) echo "${{line##*:}}" >> "$HOME/../closed"; result '"closed"';;
        *) {REFUSED};;
        esac"#
    );
    format!("{result}\n{}", serving(&body).replace(HELLO, &hello))
}

const ANSWERED: &str = r#"result '"answered"'"#;

async fn open(driver: &ExecDriver) -> Box<dyn HeldSession> {
    match driver.open(&request("d"), LIMIT).await.expect("the program works") {
        Opened::Session(_, session) => session,
        Opened::Refused(observation) => panic!("{observation:?}"),
    }
}

impl Fake {
    /// The numbers of the sessions that it was asked to close, once there are so many.
    async fn closed(&self, count: usize) -> Vec<u64> {
        let numbers = || async {
            let text = std::fs::read_to_string(self.directory.path().join("closed")).unwrap_or_default();
            let numbers: Vec<_> = text.lines().filter_map(|line| line.trim_end_matches('}').parse().ok()).collect();
            if numbers.len() == count { Ok(numbers) } else { Err(text) }
        };
        os::poll::until("sessions to be closed", LIMIT, Duration::from_millis(1), numbers).await.expect("they are closed")
    }
}

#[tokio::test]
async fn a_program_that_keeps_no_sessions_says_so_when_it_is_asked_to() {
    let fake = Fake::new(&serving(REFUSED));
    let driver = fake.started().await;
    match driver.open(&request("d"), LIMIT).await {
        Err(DriverError::Unable { source, .. }) => assert!(source.to_string().contains("\"sessions\":true"), "{source}"),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it opened something"),
    }
    driver.close().await;
}

#[tokio::test]
async fn open_sessions_take_no_slot_and_are_closed_by_their_number_also_when_dropped() {
    // One slot: a second session, and a connection beside two, would wait for ever if sessions took them.
    let fake = Fake::new(&keeping(ANSWERED));
    let driver = fake.started().await;
    let (mut first, mut second) = (open(&driver).await, open(&driver).await);
    ask(&driver, "d").await.expect("there is a slot");
    for session in [&mut first, &mut second] {
        assert_eq!(session.query(LIMIT).await.expect("the program works"), Queried::Answered);
    }
    first.close().await;
    assert_eq!(fake.closed(1).await, [0]);
    drop(second);
    assert_eq!(fake.closed(2).await, [0, 1]);
    driver.close().await;
}

#[tokio::test]
async fn a_query_does_not_wait_behind_connections_that_hang() {
    let fake = Fake::new(&keeping(ANSWERED).replace("case $line in", "case $line in\n *hang*) continue;;"));
    let driver = fake.started().await;
    let mut session = open(&driver).await;
    let connection = driver.connection().await.expect("a program");
    let mut hang = std::pin::pin!(connection.request(Operation::Connect(request("hang")), LIMIT));
    // It is sent, and has the only slot.
    assert!(tokio::time::timeout(Duration::ZERO, &mut hang).await.is_err());
    let query = tokio::time::timeout(LIMIT, session.query(LIMIT)).await.expect("it does not wait");
    assert_eq!(query.expect("the program works"), Queried::Answered);
    driver.close().await;
}

#[tokio::test]
async fn a_session_that_ended_tells_so_in_the_clients_words_and_needs_no_closing() {
    let ended = r#"result '{"refused":{"text":"FATAL:  terminating connection due to administrator command","sqlstate":"57P01"}}'"#;
    let fake = Fake::new(&keeping(ended));
    let driver = fake.started().await;
    let mut session = open(&driver).await;
    let Queried::Ended(refused) = session.query(LIMIT).await.expect("the program works") else { panic!("it goes on") };
    assert_eq!(refused.refusal, Refusal::Ended(EndReason::AdminShutdown));
    assert_eq!((refused.stage, refused.sqlstate.as_deref()), (Some(Stage::Query), Some("57P01")));
    drop(session);
    // The only one that is closed is the next.
    open(&driver).await.close().await;
    assert_eq!(fake.closed(1).await, [2]);
    driver.close().await;
}

#[tokio::test]
async fn a_query_that_takes_too_long_ends_the_session_at_the_query_stage() {
    let timed_out = r#"result '{"timed-out":{"text":""}}'"#;
    let fake = Fake::new(&keeping(timed_out));
    let driver = fake.started().await;
    let mut session = open(&driver).await;
    let Queried::Ended(refused) = session.query(LIMIT).await.expect("the program works") else { panic!("it goes on") };
    assert_eq!(refused.refusal, Refusal::TimedOut(Stage::Query));
    driver.close().await;
}

#[tokio::test]
async fn the_sessions_of_a_program_that_ended_are_broken_and_stay_so_when_it_is_started_again() {
    let fake = Fake::new(&keeping("echo 'no more ideas' >&2; exit 7"));
    let driver = fake.started().await;
    let (mut first, mut second) = (open(&driver).await, open(&driver).await);
    for session in [&mut first, &mut second] {
        match session.query(LIMIT).await {
            Err(DriverError::Broken { source, .. }) => assert!(source.to_string().contains("no more ideas"), "{source}"),
            other => panic!("{other:?}"),
        }
    }
    ask(&driver, "d").await.expect("it is started again");
    for session in [&mut first, &mut second] {
        assert!(matches!(session.query(LIMIT).await, Err(DriverError::Broken { .. })));
    }
    driver.close().await;
}

#[tokio::test]
async fn a_session_that_the_program_does_not_know_or_answers_with_nonsense_is_broken() {
    for (query, told) in [(r#"result '{"error":"no session 0"}'"#, "no session 0"), (r#"result '"closed"'"#, "no answer to a query")] {
        let fake = Fake::new(&keeping(query));
        let driver = fake.started().await;
        let mut session = open(&driver).await;
        match session.query(LIMIT).await {
            Err(DriverError::Broken { source, .. }) => assert!(source.to_string().contains(told), "{source}"),
            other => panic!("{other:?}"),
        }
        driver.close().await;
    }
}

#[tokio::test]
async fn a_session_that_was_opened_for_nobody_is_closed() {
    let opens = r#"*'"open":'*)"#;
    let waits = format!(r#"{opens} until [ -e "$HOME/../go" ]; do sleep 0.01; done;"#);
    let fake = Fake::new(&keeping(ANSWERED).replace(opens, &waits));
    let driver = fake.started().await;
    let given_up = tokio::time::timeout(Duration::from_millis(50), driver.open(&request("d"), LIMIT)).await;
    assert!(given_up.is_err());
    std::fs::write(fake.directory.path().join("go"), "").expect("writes");
    assert_eq!(fake.closed(1).await, [0]);
    driver.close().await;
}

#[tokio::test]
async fn a_program_that_does_not_greet_as_expected_is_refused_with_its_log() {
    let reason = Fake::new("echo 'no library' >&2; exit 3").start_reason().await;
    assert!(reason.contains("exit status: 3") && reason.contains("no library"), "{reason}");
    let reason = Fake::new("echo hello").start_reason().await;
    assert!(reason.contains("no greeting") && reason.contains("the line: hello"), "{reason}");
    let reason = Fake::new(&HELLO.replace("\"fake\"", "\"other\"")).start_reason().await;
    assert!(reason.contains("`other`") && reason.contains("`fake` was expected"), "{reason}");
    let reason = Fake::new(&HELLO.replace("\"protocol\":1", "\"protocol\":2")).start_reason().await;
    assert!(reason.contains("version 2"), "{reason}");
    let reason = Fake::new(&HELLO.replace("\"concurrency\":2", "\"concurrency\":0")).start_reason().await;
    assert!(reason.contains("concurrency of 0"), "{reason}");
    let reason = Fake::new(&HELLO.replace("\"version\"", "\"versions\"")).start_reason().await;
    assert!(reason.contains("unknown field `versions`"), "{reason}");
    let mut silent = Fake::new("read -r line");
    silent.program.limits.hello = Duration::from_millis(50);
    assert!(silent.start_reason().await.contains("no greeting within 50ms"));
    let Err(DriverError::Start { source, .. }) = silent.start().await else { panic!("it started") };
    assert!(matches!(&*source, StartError::Greeting { source: GreetingError::Silent { .. }, .. }), "{source:?}");
    let mut absent = Fake::new("");
    absent.program.program = "/nonexistent/client".into();
    assert!(absent.start_reason().await.contains("/nonexistent/client"));
}

#[tokio::test]
async fn a_program_that_ignores_the_end_of_its_input_is_stopped() {
    let mut fake = Fake::new(&format!("{HELLO}\nexec sleep 600"));
    fake.program.limits.close = Duration::from_millis(50);
    let connection = Connection::open(&fake.program).await.expect("a program").0;
    let before = Instant::now();
    connection.close().await;
    assert!(before.elapsed() < Duration::from_secs(30));
    let reason = connection.end().expect("it has ended").to_string();
    let signal = std::process::ExitStatus::from_raw(nix::sys::signal::Signal::SIGTERM as i32);
    assert!(reason.contains(&signal.to_string()), "{reason}");
}

/// Far above what starting a shell takes, and below every limit where none was given.
const AT_ONCE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn every_wait_for_a_program_has_the_limit_that_was_given() {
    let limits = ProgramLimits::within(Duration::from_millis(300));
    let within = |script: &str| {
        let mut fake = Fake::new(script);
        fake.program.limits = limits;
        fake
    };
    // It never greets, and ends at no signal but SIGKILL.
    let silent = within("trap '' TERM\nwhile :; do sleep 600; done");
    let begun = Instant::now();
    let reason = silent.start_reason().await;
    assert!(reason.contains("no greeting within 300ms"), "{reason}");
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    // It greets, reads, and never answers.
    let mute = within(&serving(":"));
    let driver = mute.started().await;
    let hang = driver.connect(&request("d"), Duration::from_millis(100)).await.expect_err("no answer");
    assert!(matches!(hang, DriverError::Hang { limit, .. } if limit == Duration::from_millis(400)), "{hang}");
    // It greets, and does not end with its input.
    let endless = within(&format!("trap '' TERM\n{HELLO}\nwhile :; do sleep 600; done"));
    let driver = endless.started().await;
    let begun = Instant::now();
    driver.close().await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn nothing_of_the_harness_environment_reaches_the_program_but_path() {
    let fake = Fake::new(&format!("env >&2\n{HELLO}\nread -r line"));
    let driver = fake.started().await;
    driver.close().await;
    let log = std::fs::read_to_string(&fake.program.log).expect("the log");
    let mut names: Vec<_> = log.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    // The shell itself sets the last three.
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD"].contains(name));
    assert_eq!(names, ["HOME", "LANG", "LC_ALL", "PATH", "SSL_CERT_DIR", "SSL_CERT_FILE"]);
}
