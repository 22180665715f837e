//! Servers in containers, looked at from outside of the harness: users, files and modes.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use deployment::Manifests;
use environment::container::engine::Engine;
use environment::container::{ContainerOptions, FoundImages, environment};
use environment::{Environment as _, ManifestConfigurator, ServersOptions};
use load::ScenarioSet;
use load::images::{ImageSettings, Images};
use model::image::ImageUse;
use model::server::{DeploymentKind, ServerKey, Service};
use os::rundir::RunDir;
use os::space::Space;
use pki::{FileUsers, Pki};
use serde_json::{Value, json};

use crate::support::{binary, cache, not_in_ci, repository};

/// What the test needs that no registry is asked for.
const IMAGE: &str = "mtls-conformance/postgres:17";

const KEY: ServerKey = ServerKey { service: Service::Postgres, version: Some(17), deployment: DeploymentKind::Cnpg };

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_in_a_container_is_no_root_and_has_its_files_as_cloudnativepg_does() {
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) => return not_in_ci(&error.to_string()),
    };
    let mut directory = RunDir::create(&Space::default(), Some(binary())).expect("a directory");
    let run = format!("test-pods-{}", std::process::id());
    directory.entrust(&run).expect("the watcher is there");
    let set = ScenarioSet::load(&[repository().join("scenarios")]).expect("loads");
    let manifests = Arc::new(Manifests::load(&repository().join("kind/deployment")).expect("loads"));
    let pki = Pki::new(manifests, set.credentials, directory.path().join("pki"), FileUsers::of_ourselves());
    if !engine.present(IMAGE).await.expect("the engine tells") {
        return not_in_ci(&format!("the image {IMAGE} is not there; `make images` builds it"));
    }
    let images = Images::resolve(&ImageSettings::default()).expect("the built-in ones");
    let options = ContainerOptions {
        servers: ServersOptions::new(directory.path(), Arc::new(ManifestConfigurator::new(Arc::new(pki)))),
        images: FoundImages::look(&engine, &images, BTreeMap::from([(ImageUse::Postgres(17), 1)])).await,
        harness: binary().to_path_buf(),
        run: run.clone(),
        cache_directory: cache(),
    };
    let servers = environment(&engine, options).await.expect("the environment comes up");
    let server = servers.server(KEY).await.expect("it starts");
    let container = container_of(&run, "postgres-17-");

    let postmaster = sh(&container, "grep ^Uid: /proc/$(head -n 1 /controller/data/postmaster.pid)/status");
    let uids: Vec<u32> = postmaster.split_whitespace().skip(1).map(|uid| uid.parse().expect("a number")).collect();
    assert!(uids.len() == 4 && uids.iter().all(|uid| *uid == uids[0]), "{postmaster}");
    // In the container the harness's agent is root.
    assert_eq!(sh(&container, "id -u"), "0");
    assert_ne!(uids[0], 0, "PostgreSQL is not root");
    assert_ne!(uids[0], nix::unistd::geteuid().as_raw(), "nor is it who runs the harness");

    for file in ["server.crt", "client-ca.crt", "server.key"] {
        let path = format!("/controller/certificates/{file}");
        assert_eq!(server.own_file(file).expect("it has it").display().to_string(), path);
        let here = std::fs::read_to_string(server.file(file).expect("a copy of it")).expect("reads");
        assert_eq!(sh(&container, &format!("cat {path}")), here.trim(), "{path} is what the harness's copy of it holds");
    }
    let key = sh(&container, "stat -c '%a %u' /controller/certificates/server.key");
    assert_eq!(key, format!("600 {}", uids[0]), "mode and owner of the key");
    assert_eq!(servers.close().await, Vec::<String>::new(), "nothing is left");
    directory.close();
}

/// The engine's answer over its socket.
fn ask(method: &str, path: &str, body: Option<Value>) -> Vec<u8> {
    let socket = std::env::var("DOCKER_HOST").unwrap_or_default();
    let socket = socket.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
    let url = format!("http://localhost/{path}");
    let mut curl = Command::new("curl");
    curl.args(["-s", "--fail", "-X", method, "--unix-socket", &socket, "-H", "Content-Type: application/json", &url]);
    curl.args(body.is_some().then_some("--data-binary")).args(body.is_some().then_some("@-"));
    let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("curl runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(body.map(|body| body.to_string()).unwrap_or_default().as_bytes()).expect("writes");
    drop(stdin);
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success(), "{path}: {}", output.status);
    output.stdout
}

fn json_of(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).expect("JSON")
}

/// The container of a run's server, by its name.
fn container_of(run: &str, server: &str) -> String {
    let containers = json_of(&ask("GET", "containers/json", None));
    let names = containers.as_array().into_iter().flatten().filter_map(|container| container["Names"][0].as_str());
    let names: Vec<&str> = names.filter(|name| name.contains(run)).collect();
    let name = names.iter().find(|name| name.contains(server));
    name.unwrap_or_else(|| panic!("no container of {server} among {names:?}")).trim_start_matches('/').to_owned()
}

/// Runs a shell script in a container; what it says, without the white space around it.
fn sh(container: &str, script: &str) -> String {
    // With a terminal the output comes as it is; without one it would be in frames.
    let exec = json!({"AttachStdout": true, "AttachStderr": true, "Tty": true, "Cmd": ["sh", "-c", script]});
    let exec = json_of(&ask("POST", &format!("containers/{container}/exec"), Some(exec)));
    let exec = exec["Id"].as_str().expect("an id").to_owned();
    let said = ask("POST", &format!("exec/{exec}/start"), Some(json!({"Detach": false, "Tty": true})));
    let ended = json_of(&ask("GET", &format!("exec/{exec}/json"), None));
    let said = String::from_utf8_lossy(&said).replace('\r', "").trim().to_owned();
    assert_eq!(ended["ExitCode"], 0, "{script}: {said}");
    said
}
