//! `mtls-conformance agent`: the agent as a program.

use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{say, serve};

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

/// The run's secret, which every request must give.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// This text.
    ///
    /// # Errors
    /// It is empty: anybody's would do.
    pub fn new(text: impl Into<String>) -> Result<Self, String> {
        let text = text.into();
        if text.is_empty() { Err("an agent's token must not be empty".to_owned()) } else { Ok(Self(text)) }
    }

    /// Whether it is this one. Takes as long for any text of its length.
    pub(super) fn is(&self, text: &str) -> bool {
        let difference = self.0.bytes().zip(text.bytes()).fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs));
        self.0.len() == text.len() && difference == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token")
    }
}

/// An agent's whole life.
///
/// # Errors
/// It could not begin: the token's file or the port, in words.
pub fn main(args: &AgentArgs) -> Result<(), String> {
    let read = std::fs::read_to_string(&args.token_file);
    let text = read.map_err(|error| format!("could not read the token of {}: {error}", args.token_file.display()))?;
    let token = Token::new(text.trim())?;
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("could not start: {error}"))?;
    runtime.block_on(listen(args.listen, token))?;
    // What is left are connections that nobody needs, and perhaps a read of a disk that hangs.
    runtime.shutdown_background();
    Ok(())
}

async fn listen(address: SocketAddr, token: Token) -> Result<(), String> {
    let error = |error| format!("could not listen on {address}: {error}");
    let listener = TcpListener::bind(address).await.map_err(error)?;
    let port = listener.local_addr().map_err(error)?.port();
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| format!("could not wait for SIGTERM: {error}"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| format!("could not wait for SIGINT: {error}"))?;
    // Who started it may not care.
    let _ = writeln!(std::io::stdout(), "{port}").and_then(|()| std::io::stdout().flush());
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
