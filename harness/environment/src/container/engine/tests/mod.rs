//! With a real engine; skipped, with the reason, where none answers or none of our images is there.

mod connect;
mod containers;
mod faults;
mod networks;
mod removal;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptions, ListVolumesOptions};
use futures_util::TryStreamExt as _;

use super::{Attachment, Container, ContainerSpec, Engine, EngineError, ImageFound, Scope, ScopeOptions};

/// Images with a shell and Python, of which any will do.
const IMAGES: [&str; 2] = ["mtls-conformance/postgres:17", "dev/trixie:17"];

/// What the stand-in for the harness's binary says.
const HARNESS_SAYS: &str = "the harness runs";

/// A scope, an image, and what holds them.
struct Rig {
    engine: Engine,
    scope: Scope,
    image: ImageFound,
    _directory: tempfile::TempDir,
}

impl Rig {
    /// `None` where there is no engine or no image.
    async fn new(test: &str) -> Option<Self> {
        let (engine, image) = engine_and_image(test).await?;
        let directory = tempfile::tempdir().expect("a directory");
        let scope = Scope::open(&engine, options(&directory)).await.expect("opens");
        Some(Self { engine, scope, image, _directory: directory })
    }

    /// A container that listens with Python's web server at this port, and does nothing else.
    fn listener(&self, name: &str, port: u16) -> ContainerSpec {
        let mut spec = ContainerSpec::new(name, self.image.clone(), ["python3", "-m", "http.server", &port.to_string()]);
        spec.publish = vec![port];
        spec
    }

    /// A container that waits.
    fn idle(&self, name: &str) -> ContainerSpec {
        ContainerSpec::new(name, self.image.clone(), ["sleep", "1000"])
    }

    async fn start(&self, spec: ContainerSpec) -> Container {
        self.scope.start(spec).await.expect("starts")
    }

    async fn close(self) {
        assert_eq!(self.scope.close().await, [], "nothing is left");
        assert_eq!(all_of(&self.engine, self.scope.run()).await, BTreeSet::new());
    }
}

fn options(directory: &tempfile::TempDir) -> ScopeOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let harness: PathBuf = directory.path().join("harness");
    std::fs::write(&harness, format!("#!/bin/sh\necho {HARNESS_SAYS}\n")).expect("writes");
    std::fs::set_permissions(&harness, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let run = format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
    ScopeOptions { run, harness, token: "secret".to_owned() }
}

async fn engine_and_image(test: &str) -> Option<(Engine, ImageFound)> {
    let skip = |reason: String| writeln!(std::io::stderr(), "skipped {test}: {reason}").expect("writes");
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error @ (EngineError::Absent { .. } | EngineError::Denied { .. })) => {
            skip(error.to_string());
            return None;
        }
        Err(error) => panic!("{error}"),
    };
    for reference in IMAGES {
        if engine.present(reference).await.expect("the engine tells") {
            let image = engine.resolve(&[reference]).await.expect("it is there");
            return Some((engine, image));
        }
    }
    skip(format!("none of the images {IMAGES:?} is there; `kind/images/build.sh` builds them"));
    None
}

/// The names of everything that a run has made, by the names alone.
async fn all_of(engine: &Engine, run: &str) -> BTreeSet<String> {
    let docker = engine.docker();
    let containers = docker.list_containers(Some(ListContainersOptionsBuilder::new().all(true).build())).await.expect("lists");
    let networks = docker.list_networks(None::<ListNetworksOptions>).await.expect("lists");
    let volumes = docker.list_volumes(None::<ListVolumesOptions>).await.expect("lists");
    let names = containers.into_iter().flat_map(|container| container.names.unwrap_or_default());
    let names = names.chain(networks.into_iter().filter_map(|network| network.name));
    let names = names.chain(volumes.volumes.into_iter().flatten().map(|volume| volume.name));
    names.filter(|name| name.contains(run)).collect()
}

/// Runs a shell script in a container: its exit code, and all that it says.
async fn sh(engine: &Engine, container: &Container, script: &str) -> (i64, String) {
    let docker = engine.docker();
    let options = CreateExecOptions {
        cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let exec = docker.create_exec(container.engine_name(), options).await.expect("makes");
    let StartExecResults::Attached { output, .. } = docker.start_exec(&exec.id, None::<StartExecOptions>).await.expect("runs") else {
        panic!("it is attached");
    };
    let parts: Vec<_> = output.try_collect().await.expect("its output");
    let code = docker.inspect_exec(&exec.id).await.expect("looks").exit_code.expect("it has ended");
    (code, parts.iter().map(ToString::to_string).collect())
}

/// What a container says that connects to this address: `connected FROM`, or Python's name of the failure.
async fn dial(engine: &Engine, from: &Container, host: impl std::fmt::Display, port: u16) -> String {
    let script = format!(
        "python3 - <<'END'\nimport socket\ntry:\n  s = socket.create_connection(('{host}', {port}), 2)\n  s.sendall(b'HEAD / HTTP/1.0\\r\\n\\r\\n')\n\
         \x20 s.recv(1)\n  print('connected', s.getsockname()[0])\n\
         except Exception as e:\n  print(type(e).__name__)\nEND"
    );
    sh(engine, from, &script).await.1.trim().to_owned()
}

/// Waits until a port of this machine takes connections and answers.
async fn serves(address: std::net::SocketAddr) {
    os::poll::until("an answer of the web server", Duration::from_secs(10), Duration::from_millis(20), || async {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        stream.write_all(b"HEAD / HTTP/1.0\r\n\r\n").await.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
        if answer.starts_with("HTTP/1.0 200") { Ok(()) } else { Err(format!("it says {answer:?}")) }
    })
    .await
    .expect("it serves");
}

/// A spec's networks without wishes for an address.
fn on(networks: impl IntoIterator<Item = model::network::NetworkName>) -> Vec<Attachment> {
    networks.into_iter().map(Attachment::from).collect()
}
