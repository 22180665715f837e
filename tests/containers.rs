//! What the harness owns in containers is removed by its watcher when it is gone.

use std::io::Write as _;
use std::process::{Command, Stdio};

use mtls_conformance::environment::container::engine::{ContainerSpec, Engine, Scope, ScopeOptions};
use mtls_conformance::os::rundir::RunDir;

use crate::support::binary;

/// Images of which any will do.
const IMAGES: [&str; 2] = ["mtls-conformance/postgres:17", "dev/trixie:17"];

#[tokio::test]
async fn the_watcher_removes_containers_networks_and_volume_after_an_end_without_order() {
    let skip = |reason: String| writeln!(std::io::stderr(), "skipped the_watcher_removes_containers: {reason}").expect("writes");
    let engine = match Engine::connect().await {
        Ok(engine) => engine,
        Err(error) => return skip(error.to_string()),
    };
    let mut image = None;
    for reference in IMAGES {
        if engine.present(reference).await.expect("the engine tells") {
            image = Some(engine.resolve(&[reference]).await.expect("it is there"));
            break;
        }
    }
    let Some(image) = image else { return skip(format!("none of {IMAGES:?} is there; `kind/images/build.sh` builds them")) };
    let mut directory = RunDir::create(Some(binary())).expect("a directory");
    let run = format!("test-watcher-{}", std::process::id());
    directory.entrust(&run).expect("the watcher is there");
    let options = ScopeOptions { run: run.clone(), harness: binary().to_path_buf(), token: "secret".to_owned() };
    let scope = Scope::open(&engine, options).await.expect("opens");
    let container = scope.start(ContainerSpec::new("left", image, ["sleep", "1000"])).await.expect("starts");
    assert_eq!(named(&run), [1, 5, 1], "a container, the networks, a volume");
    // As a panic does it. Ends only with the watcher.
    drop(directory);
    assert_eq!(named(&run), [0, 0, 0], "nothing is left");
    drop((container, scope));
}

/// How many containers, networks and volumes of the engine have this in their name: asked from outside of the harness.
fn named(run: &str) -> [usize; 3] {
    let curl = |path: &str| {
        let socket = std::env::var("DOCKER_HOST").unwrap_or_default();
        let socket = socket.strip_prefix("unix://").unwrap_or("/var/run/docker.sock").to_owned();
        let output = Command::new("curl")
            .args(["-s", "--fail", "--unix-socket", &socket, &format!("http://localhost/{path}")])
            .stderr(Stdio::inherit())
            .output()
            .expect("curl runs");
        assert!(output.status.success(), "{path}: {}", output.status);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
    };
    let count = |list: &serde_json::Value| {
        let names = list.as_array().into_iter().flatten().map(|item| item.get("Names").or_else(|| item.get("Name")));
        names.flatten().filter(|name| name.to_string().contains(run)).count()
    };
    [count(&curl("containers/json?all=true")), count(&curl("networks")), count(&curl("volumes")["Volumes"])]
}
