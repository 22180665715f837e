//! What the harness owns in containers is removed by its watcher when it is gone.

use environment::container::engine::{ContainerSpec, Engine, Scope, ScopeOptions};
use os::rundir::RunDir;
use os::space::Space;

use super::outside::{Outside, POSTGRES};
use crate::support::binary;

#[tokio::test]
async fn the_watcher_removes_containers_networks_and_volume_after_an_end_without_order() {
    let Some(outside) = Outside::find(&[POSTGRES]).await else { return };
    let engine = Engine::connect().await.expect("it answers");
    let image = engine.resolve(&[POSTGRES]).await.expect("it is there");
    let mut directory = RunDir::create(&Space::default(), Some(binary())).expect("a directory");
    let run = format!("test-watcher-{}", std::process::id());
    directory.entrust(&run).expect("the watcher is there");
    let options = ScopeOptions { run: run.clone(), harness: binary().to_path_buf(), token: "secret".to_owned() };
    let scope = Scope::open(&engine, options).await.expect("opens");
    let container = scope.start(ContainerSpec::new("left", image, ["sleep", "1000"])).await.expect("starts");
    let count = |kind: &str| outside.owned(&run).iter().filter(|owned| owned.starts_with(kind)).count();
    assert_eq!(["container ", "network ", "volume "].map(count), [1, 5, 1]);
    // As a panic does it. Ends only with the watcher.
    drop(directory);
    assert_eq!(outside.owned(&run), [""; 0], "nothing is left");
    drop((container, scope));
}
