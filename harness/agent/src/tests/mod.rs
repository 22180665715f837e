//! The agent in a task of the test's own, and real children, sockets and files.
//!
//! What needs a process of its own (the agent's end, a killed host) is in `tests/agents/`.

mod archive;
mod child;
mod dial;
mod files;
mod follow;
mod protocol;
mod relay;
mod run;

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{Agent, AgentLease, Token, serve};
use os::child::ChildSpec;

const LIMIT: Duration = Duration::from_secs(20);
const TOKEN: &str = "the token of these tests";

/// An agent, held; it ends with the test.
pub(super) struct Served {
    pub(super) agent: Agent,
    lease: Option<AgentLease>,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) async fn served() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let agent = Agent::new(listener.local_addr().expect("bound"), TOKEN);
    let task = tokio::spawn(serve(listener, Token::new(TOKEN).expect("a token"), std::future::pending()));
    let lease = Some(agent.hold().await.expect("it takes a lease"));
    Served { agent, lease, task }
}

/// A shell script as a child.
fn shell(script: &str) -> ChildSpec {
    ChildSpec::new("/bin/sh", "/nonexistent/log").arg("-c").arg(script)
}

fn process_exists(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

/// Waits for a condition that nothing tells of.
async fn until<S: std::fmt::Display>(what: &str, condition: impl Fn() -> Result<(), S>) {
    os::poll::until(what, LIMIT, Duration::from_millis(2), || async { condition() }).await.expect("it comes true");
}

/// Waits until a local file ends with this text.
async fn until_ends_with(path: &Path, end: &str) {
    until("the file's end", || {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text.ends_with(end) { Ok(()) } else { Err(text) }
    })
    .await;
}
