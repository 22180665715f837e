//! `mtls-conformance agent`: the agent as a program.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::listener::serve;
use super::log::say;
use super::token::{EmptyToken, Token};

/// The hidden subcommand that an agent runs as.
pub const COMMAND: &str = "agent";

/// Arguments of an agent.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentArgs {
    /// Where to listen; port 0 is any. The port is the first line on standard output
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The file with the run's secret
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
}

/// An agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file that [`AgentArgs::token_file`] names can't be read.
    #[error("could not read the token of {path}: {source}", path = path.display())]
    TokenFile {
        /// Where the token was looked for.
        path: PathBuf,
        /// What open(2) or read(2) said, or that it is no text.
        source: io::Error,
    },
    /// The file is there, and has nothing but white space in it.
    #[error("could not use the token of {path}: {source}", path = path.display())]
    Token {
        /// Where the token was looked for.
        path: PathBuf,
        /// Why it is none.
        source: EmptyToken,
    },
    /// No threads, or no descriptors.
    #[error("could not start the agent's threads: {0}")]
    Runtime(#[source] io::Error),
    /// The port is taken, or the address is none of the container's.
    #[error("could not listen on {address}: {source}")]
    Listen {
        /// What [`AgentArgs::listen`] asked for.
        address: SocketAddr,
        /// What bind(2) or listen(2) said.
        source: io::Error,
    },
    /// Without a handler the signal would end the agent before its children.
    #[error("could not wait for {name}: {source}")]
    Signal {
        /// The name of the signal, such as `SIGTERM`.
        name: &'static str,
        /// What sigaction(2) said.
        source: io::Error,
    },
}

/// Runs an agent until its last lease has ended, or a signal ends it.
///
/// # Errors
/// [`StartError`].
pub fn main(args: &AgentArgs) -> Result<(), StartError> {
    let path = || args.token_file.clone();
    let text = std::fs::read_to_string(&args.token_file).map_err(|source| StartError::TokenFile { path: path(), source })?;
    let token = Token::new(text.trim()).map_err(|source| StartError::Token { path: path(), source })?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(StartError::Runtime)?;
    runtime.block_on(listen(args.listen, token))?;
    // What is left are connections that nobody needs, and perhaps a read of a disk that hangs.
    runtime.shutdown_background();
    Ok(())
}

async fn listen(address: SocketAddr, token: Token) -> Result<(), StartError> {
    let error = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let port = listener.local_addr().map_err(error)?.port();
    let mut terminate = signal(SignalKind::terminate()).map_err(|source| StartError::Signal { name: "SIGTERM", source })?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|source| StartError::Signal { name: "SIGINT", source })?;
    // Who started it may not care.
    let _ = writeln!(io::stdout(), "{port}").and_then(|()| io::stdout().flush());
    serve(listener, token, async {
        tokio::select! {
            _ = terminate.recv() => say("ends by SIGTERM"),
            _ = interrupt.recv() => say("ends by SIGINT"),
        }
    })
    .await;
    Ok(())
}

/// Each connection that is carried takes two descriptors.
fn raise_descriptors() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // At worst it stays at what it is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
