//! The connection itself: token, limits, leases.

use std::io::ErrorKind;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LIMIT, TOKEN, served, shell};
use crate::{Agent, AgentArgs, AgentError, EmptyToken, StartError, main};

async fn raw(agent: &Agent, sent: &[u8]) -> String {
    let mut stream = TcpStream::connect(agent.address()).await.expect("connects");
    stream.write_all(sent).await.expect("sends");
    let mut text = String::new();
    timeout(LIMIT, stream.read_to_string(&mut text)).await.expect("it ends").expect("reads");
    text
}

#[tokio::test]
async fn a_wrong_token_gets_one_line_and_the_end() {
    let served = served().await;
    for wrong in ["", "the token of these test", "the token of these testS", "the token of these tests and more"] {
        let stranger = Agent::new(served.agent.address(), wrong);
        let error = stranger.survey().await.expect_err("refused");
        assert!(error.to_string().contains("token is wrong"), "{error}");
        let error = stranger.run(&shell("echo x"), None, LIMIT).await.expect_err("refused");
        assert!(matches!(&error, AgentError::Refused { .. }), "{error}");
    }
    let line = raw(&served.agent, b"{\"token\": \"no\", \"request\": {\"no-such\": 1}}\n").await;
    assert!(line.contains("token is wrong") && line.ends_with("}\n"), "before the request is looked at: {line}");
}

#[tokio::test]
async fn what_is_no_request_is_answered_with_an_error() {
    let served = served().await;
    assert!(raw(&served.agent, b"GET / HTTP/1.1\r\n").await.contains("this is no request"));
    let unknown = format!("{{\"token\": \"{TOKEN}\", \"request\": {{\"no-such\": 1}}}}\n");
    assert!(raw(&served.agent, unknown.as_bytes()).await.contains("no-such"));
    served.agent.hold().await.expect("it goes on");
}

#[tokio::test]
async fn a_connection_that_says_nothing_holds_nobody_up() {
    let served = served().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(served.agent.address()).await.expect("connects"));
    }
    timeout(LIMIT, served.agent.make_directories(&[])).await.expect("in time").expect("done");
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_told_by_its_address_and_what_it_was_to_do() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let agent = Agent::new(gone, TOKEN);
    let error = agent.survey().await.expect_err("nobody there");
    let text = error.to_string();
    assert!(text.contains(&gone.to_string()) && text.contains("look at what is installed"), "{text}");
    let error = agent.dial(gone, None).await.expect_err("nobody there");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().contains("agent"), "{error}");
    assert!(!format!("{agent:?} {error:?}").contains(TOKEN));
}

#[tokio::test]
async fn the_last_lease_ends_the_agent_and_its_children() {
    let mut served = served().await;
    let second = served.agent.hold().await.expect("another one");
    let directory = tempfile::tempdir().expect("a directory");
    let mut child = served.agent.spawn(&shell("exec sleep 1000"), &directory.path().join("out")).await.expect("starts");
    served.lease = None;
    served.agent.make_directories(&[]).await.expect("the second one holds it");
    assert!(child.try_wait().is_none());
    drop(second);
    timeout(LIMIT, &mut served.task).await.expect("it ends").expect("in order");
    let status = timeout(LIMIT, child.wait()).await.expect("known").expect("told");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(15), "its stop signal");
    assert!(!child.is_lost(), "the agent has told of it");
}

#[test]
fn an_agent_that_cannot_begin_says_which_file_or_address_stands_in_its_way() {
    let directory = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let args = |token_file: &str| AgentArgs { listen: taken.local_addr().expect("bound"), token_file: directory.path().join(token_file) };
    std::fs::write(directory.path().join("blank"), " \n").expect("writes");
    std::fs::write(directory.path().join("token"), TOKEN).expect("writes");
    let error = |token_file| main(&args(token_file)).expect_err("it can't begin");
    assert!(matches!(error("missing"), StartError::TokenFile { path, .. } if path.ends_with("missing")));
    assert!(matches!(error("blank"), StartError::Token { path, source: EmptyToken } if path.ends_with("blank")));
    assert!(matches!(error("token"), StartError::Listen { address, .. } if address == taken.local_addr().expect("bound")));
}
