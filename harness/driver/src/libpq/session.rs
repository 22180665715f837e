//! A session through libpq: connect step by step, look at it, ask the server for its view; then queries, until it is closed.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, NulError};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{MsgFlags, SockaddrStorage, getsockname, recv};
use sha2::{Digest as _, Sha256};

use crate::error::UnableError;
use crate::protocol::{Failure, Outcome};
use model::connect::{Password, PostgresRequest, SslMode, SslNegotiation, TlsVersion};
use model::endpoint::Address;
use model::observation::{ClientObservation, ClientOutcome, Phases, SeenCertificate, ServerView, Session};
use model::refusal::Stage;

use super::library::{Connection, Libpq, NoRow, Polled, QueryResult, Status};
use super::progress::{PollSample, Progress};

/// The server's view of the session that asks, in the order of [`ServerView`]'s fields.
const SERVER_VIEW: &CStr = c"SELECT ssl, version, cipher, client_dn, client_serial::text, issuer_dn, current_user \
    FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// A session that stays open; dropping it closes it.
pub(super) struct Held<'a> {
    connection: Connection<'a>,
    replication: bool,
}

impl<'a> Held<'a> {
    /// Connects and looks at the session, within `limit`. What came of it, where that is no session.
    pub(super) fn open(library: &'a Libpq, request: &PostgresRequest, limit: Duration) -> Result<(ClientObservation, Self), Box<Outcome>> {
        if request.alpn.is_some() {
            return Err(Box::new(Outcome::Unable("libpq always offers the ALPN protocol `postgresql`".to_owned())));
        }
        if !request.env.is_empty() {
            return Err(Box::new(Outcome::Unable(UnableError::NoConfigurationFile.to_string())));
        }
        let Ok(options) = options(request) else {
            return Err(Box::new(Outcome::Unable("an option holds a NUL character, which C strings can't".to_owned())));
        };
        let clock = Clock { start: Instant::now(), limit };
        let direct = request.sslnegotiation == Some(SslNegotiation::Direct);
        let tcp = matches!(request.endpoint.address, Address::Tcp(_));
        let mut progress = Progress::new(direct, tcp);
        let Some(mut connection) = library.start(&options) else {
            return Err(Box::new(Outcome::Error("libpq has no memory for a connection".to_owned())));
        };
        connect(&mut connection, &mut progress, &clock).map_err(|end| Box::new(end.outcome(progress.phases(None))))?;
        let ready_ns = clock.now_ns();
        let view = if request.replication {
            identify_system(&mut connection, &clock).map(|()| None)
        } else {
            server_view(&mut connection, &clock).map(Some)
        };
        let view = view.map_err(|end| Box::new(end.outcome(progress.phases(Some(ready_ns)))))?;
        let mut phases = progress.phases(Some(ready_ns));
        phases.query_ns = Some(clock.now_ns().saturating_sub(ready_ns));
        let session = session(&connection, view);
        let observation = ClientObservation { outcome: ClientOutcome::Session(session), phases, settings: BTreeMap::new() };
        Ok((observation, Self { connection, replication: request.replication }))
    }

    /// Asks the server something small, within `limit`. After another answer than [`Outcome::Answered`] the session is of no more use.
    pub(super) fn query(&mut self, limit: Duration) -> Outcome {
        let clock = Clock { start: Instant::now(), limit };
        let answer = if self.replication {
            identify_system(&mut self.connection, &clock)
        } else {
            first_row(&mut self.connection, c"SELECT 1", &clock).map(drop)
        };
        answer.map_or_else(|end| end.outcome(Phases::default()), |()| Outcome::Answered)
    }
}

/// The options exactly as requested; what is unset stays unset. `gssencmode=disable` keeps GSSAPI, which is not our subject, off the wire.
fn options(request: &PostgresRequest) -> Result<Vec<(&'static CStr, CString)>, NulError> {
    let path = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let mut options = Vec::new();
    match &request.endpoint.address {
        Address::Tcp(address) => {
            options.push((c"host", CString::new(request.endpoint.host.as_str())?));
            options.push((c"hostaddr", CString::new(address.ip().to_string())?));
            options.push((c"port", CString::new(address.port().to_string())?));
        }
        Address::Unix { directory, port } => {
            options.push((c"host", path(directory)?));
            options.push((c"port", CString::new(port.to_string())?));
        }
    }
    options.push((c"user", CString::new(request.user.as_str())?));
    options.push((c"dbname", CString::new(request.database.as_str())?));
    options.push((c"gssencmode", c"disable".to_owned()));
    options.push((c"application_name", c"mtls-conformance".to_owned()));
    let words = [
        (c"password", request.password.as_ref().map(Password::reveal)),
        (c"sslmode", request.sslmode.map(SslMode::name)),
        (c"sslnegotiation", request.sslnegotiation.map(SslNegotiation::name)),
        (c"ssl_min_protocol_version", request.min_tls.map(TlsVersion::name)),
        (c"ssl_max_protocol_version", request.max_tls.map(TlsVersion::name)),
        (c"replication", request.replication.then_some("true")),
    ];
    for (name, value) in words {
        if let Some(value) = value {
            options.push((name, CString::new(value)?));
        }
    }
    let files = [(c"sslcert", &request.files.certificate), (c"sslkey", &request.files.key), (c"sslrootcert", &request.files.root)];
    for (name, value) in files {
        if let Some(value) = value {
            options.push((name, path(value)?));
        }
    }
    Ok(options)
}

/// Time since the request's start, and its limit.
struct Clock {
    start: Instant,
    limit: Duration,
}

impl Clock {
    fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Waits until the socket is ready; false once the limit is over.
    fn wait(&self, socket: BorrowedFd<'_>, events: PollFlags) -> bool {
        loop {
            let left = self.limit.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                return false;
            }
            // Rounded up, so that the last millisecond is not spent in a busy loop.
            let milliseconds = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
            match nix::poll::poll(&mut [PollFd::new(socket, events)], PollTimeout::from(milliseconds)) {
                Ok(0) | Err(Errno::EINTR) => {}
                // An error on the descriptor itself is libpq's to report, at its next call.
                Ok(_) | Err(_) => return true,
            }
        }
    }
}

/// Why a session did not come about.
enum End {
    Refused { text: String, stage: Stage, sqlstate: Option<String> },
    TimedOut(Stage),
    Lost(&'static str),
}

impl End {
    fn refused(text: String, stage: Stage) -> Self {
        Self::Refused { text, stage, sqlstate: None }
    }

    /// With the phases that were completed.
    fn outcome(self, phases: Phases) -> Outcome {
        match self {
            Self::Refused { text, stage, sqlstate } => {
                Outcome::Refused(Failure { text, stage: Some(stage), sqlstate, phases, ..Failure::default() })
            }
            Self::TimedOut(stage) => Outcome::TimedOut(Failure { stage: Some(stage), phases, ..Failure::default() }),
            Self::Lost(reason) => Outcome::Error(reason.to_owned()),
        }
    }
}

fn connect(connection: &mut Connection<'_>, progress: &mut Progress, clock: &Clock) -> Result<(), End> {
    let mut polled = if connection.status() == Status::Bad { Polled::Failed } else { Polled::Writing };
    let mut before_ns = 0;
    let mut first = true;
    loop {
        if polled == Polled::Failed {
            let text = connection.message();
            // Without a socket nothing was tried, unless libpq says that it tried to connect.
            let nothing_tried = first && !text.starts_with("connection to server");
            let stage = if nothing_tried { Stage::Options } else { progress.stage() };
            return Err(End::refused(text, stage));
        }
        {
            let Some(socket) = connection.socket() else {
                return Err(End::Lost("libpq goes on connecting without a socket"));
            };
            let local = local_address(socket);
            progress.step(&PollSample {
                before_ns,
                after_ns: clock.now_ns(),
                status: connection.status(),
                tls: connection.tls(),
                local: &local,
            });
            first = false;
            let events = match polled {
                Polled::Ready | Polled::Failed => return Ok(()),
                Polled::Reading => PollFlags::POLLIN,
                Polled::Writing => PollFlags::POLLOUT,
            };
            if !clock.wait(socket, events) {
                return Err(End::TimedOut(progress.stage()));
            }
            let now_ns = clock.now_ns();
            progress.ready(now_ns);
            if progress.awaits_answer()
                && polled == Polled::Reading
                && let Some(byte) = peek(socket)
            {
                progress.answered(byte, now_ns);
            }
        }
        before_ns = clock.now_ns();
        polled = connection.poll();
    }
}

/// The socket's own address as text; empty where it has none.
fn local_address(socket: BorrowedFd<'_>) -> String {
    getsockname::<SockaddrStorage>(socket.as_raw_fd()).map(|address| address.to_string()).unwrap_or_default()
}

/// The next byte, left in place; `None` at the end of the stream.
fn peek(socket: BorrowedFd<'_>) -> Option<u8> {
    let mut byte = [0];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    matches!(recv(socket.as_raw_fd(), &mut byte, flags), Ok(1)).then_some(byte[0])
}

/// Asks for the server's view.
fn server_view(connection: &mut Connection<'_>, clock: &Clock) -> Result<ServerView, End> {
    let mut columns = first_row(connection, SERVER_VIEW, clock)?.into_iter();
    let mut next = || columns.next().flatten();
    Ok(ServerView {
        ssl: next().as_deref() == Some("t"),
        version: next(),
        cipher: next(),
        client_dn: next(),
        client_serial: next(),
        issuer_dn: next(),
        user: next(),
    })
}

/// The first command of every replica: a WAL sender takes no SQL.
fn identify_system(connection: &mut Connection<'_>, clock: &Clock) -> Result<(), End> {
    first_row(connection, c"IDENTIFY_SYSTEM", clock).map(drop)
}

/// Sends a command and takes the first row of its result, without ever blocking in libpq.
fn first_row(connection: &mut Connection<'_>, command: &CStr, clock: &Clock) -> Result<Vec<Option<String>>, End> {
    if !connection.send_query(command) {
        return Err(End::refused(connection.message(), Stage::Query));
    }
    let row = match next_result(connection, clock)? {
        Some(result) => result.row().map_err(|NoRow { text, sqlstate }| End::Refused { text, stage: Stage::Query, sqlstate })?,
        None => return Err(End::refused(connection.message(), Stage::Query)),
    };
    // libpq takes no other command before it was asked for everything that belongs to this one.
    while next_result(connection, clock)?.is_some() {}
    Ok(row)
}

/// The next result of the command under way; `None` when it is over.
fn next_result<'a>(connection: &mut Connection<'a>, clock: &Clock) -> Result<Option<QueryResult<'a>>, End> {
    while connection.is_busy() {
        let Some(socket) = connection.socket() else {
            return Err(End::refused(connection.message(), Stage::Query));
        };
        if !clock.wait(socket, PollFlags::POLLIN) {
            return Err(End::TimedOut(Stage::Query));
        }
        if !connection.consume_input() {
            return Err(End::refused(connection.message(), Stage::Query));
        }
    }
    Ok(connection.result())
}

fn session(connection: &Connection<'_>, view: Option<ServerView>) -> Session {
    let tls = connection.tls();
    let attribute = |name| connection.tls_attribute(name).filter(|_| tls);
    Session {
        tls,
        version: attribute(c"protocol").and_then(|name| tls_version(&name)),
        cipher: attribute(c"cipher"),
        alpn: attribute(c"alpn"),
        server_certificate: connection.server_certificate().map(|der| SeenCertificate { sha256: hex(&Sha256::digest(der)) }),
        server_view: view,
    }
}

fn tls_version(name: &str) -> Option<TlsVersion> {
    [TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2, TlsVersion::V1_3].into_iter().find(|version| version.name() == name)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
