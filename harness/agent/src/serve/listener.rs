//! Takes connections, and gives each request to what answers it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::line;
use super::super::protocol::{Done, Envelope, Failure, Request};
use super::answer::{blocking, refuse, reply};
use super::lifetime::{GRACE, Lifetime};
use super::log::say;
use super::token::Token;
use super::{archive, child, dial, files, follow, relay, run, survey};
use os::accept::ACCEPT_PAUSE;

/// How long a connection may take to send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// How long an agent lives without ever having had a lease.
const FIRST_LEASE_LIMIT: Duration = Duration::from_secs(30);

/// Serves until its last lease has ended, or `told_to_end`; its children have been stopped then. Without any lease it waits for
/// half a minute for the first one.
pub async fn serve(listener: TcpListener, token: Token, told_to_end: impl Future<Output = ()>) {
    let token = Arc::new(token);
    let lifetime = Arc::new(Lifetime::default());
    let mut connections = JoinSet::new();
    let over = async {
        tokio::select! {
            () = told_to_end => {}
            () = lifetime.leases_over(FIRST_LEASE_LIMIT) => {}
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (token, lifetime) = (Arc::clone(&token), Arc::clone(&lifetime));
                    connections.spawn(async move { connection(stream, &token, &lifetime).await });
                }
                Err(error) => {
                    say(&format!("could not accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next(), if !connections.is_empty() => note(&ended),
        }
    }
    drop(listener);
    lifetime.stop_children(GRACE + Duration::from_secs(1)).await;
}

fn note(ended: &Result<io::Result<()>, tokio::task::JoinError>) {
    match ended {
        Err(error) if error.is_panic() => say(&format!("a request's task panicked: {error}")),
        // The other end is gone: it has its own reasons, and reads nothing any more.
        _ => {}
    }
}

/// One connection, from its request to its end.
async fn connection(mut stream: TcpStream, token: &Token, lifetime: &Arc<Lifetime>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let Ok(line) = timeout(REQUEST_LIMIT, line::read(&mut stream, line::MAX_LINE)).await else {
        return refuse(&mut stream, Failure::text(format!("no request came within {REQUEST_LIMIT:?}"))).await;
    };
    let line = match line {
        Ok(line) => line,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return refuse(&mut stream, Failure::io("read a request", &error)).await;
        }
        Err(error) => return Err(error),
    };
    // The token is looked at before anything is made of the request.
    let envelope: Envelope<Box<serde_json::value::RawValue>> = match serde_json::from_slice(&line) {
        Ok(envelope) => envelope,
        Err(error) => return refuse(&mut stream, Failure::text(format!("this is no request: {error}"))).await,
    };
    if !token.is(&envelope.token) {
        say("refused a connection with a wrong token");
        return refuse(&mut stream, Failure::text("the token is wrong: this agent belongs to another run")).await;
    }
    match serde_json::from_str(envelope.request.get()) {
        Ok(request) => answer(stream, request, lifetime).await,
        Err(error) => refuse(&mut stream, Failure::text(format!("this agent knows no such request: {error}"))).await,
    }
}

async fn answer(mut stream: TcpStream, request: Request, lifetime: &Arc<Lifetime>) -> io::Result<()> {
    match request {
        Request::Survey => reply(&mut stream, blocking(|| Ok(survey::survey())).await).await,
        Request::Hold => {
            let _lease = lifetime.hold();
            line::keep_alive(&stream);
            reply(&mut stream, Ok(Done {})).await?;
            line::hung_up(&stream).await;
            Ok(())
        }
        Request::MakeDirectories(directories) => reply(&mut stream, blocking(move || files::make(&directories)).await).await,
        Request::Write(written) => reply(&mut stream, blocking(move || files::write(&written)).await).await,
        Request::Remove(paths) => reply(&mut stream, blocking(move || files::remove(&paths)).await).await,
        Request::Length(path) => reply(&mut stream, blocking(move || files::length(&path)).await).await,
        Request::Spawn { child, piped } => child::spawn(stream, child, piped, lifetime).await,
        Request::Run { child, input, limit_ms } => {
            let ran = run::run(&stream, child, input, Duration::from_millis(limit_ms), lifetime).await;
            match ran {
                Some(ran) => reply(&mut stream, ran).await,
                None => Ok(()),
            }
        }
        Request::Follow { path, from } => follow::follow(stream, &path, from).await,
        Request::Dial { server, source } => dial::tcp(stream, server, source).await,
        Request::DialUnix(path) => dial::unix(stream, &path).await,
        Request::Pack(directory) => archive::pack(stream, directory).await,
        Request::Unpack { directory, owner } => archive::unpack(stream, directory, owner).await,
        Request::OpenRelay(relay) => relay::open(stream, relay).await,
    }
}
