//! What `doctor` tells of engine and images.

use super::outside::{IMAGES, Outside, POSTGRES};
use crate::support::harness;

/// What it says, with the engine at this place; it ends well in any case.
fn doctor(host: Option<&str>) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let mut command = harness(directory.path(), &["doctor"]);
    if let Some(host) = host {
        command.env("DOCKER_HOST", host);
    }
    let output = command.output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// The line about the engine.
fn engine(said: &str) -> &str {
    said.lines().find_map(|line| line.strip_prefix("container engine: ")).unwrap_or_else(|| panic!("no line of the engine: {said}"))
}

#[test]
fn doctor_tells_the_engine_and_which_images_are_taken() {
    let Some(outside) = Outside::here(&IMAGES) else { return };
    let said = doctor(None);
    let version = outside.ask("version", &[]).expect("the engine tells");
    let image = outside.ask(&format!("images/{POSTGRES}/json"), &[]).expect("the engine tells");
    let of = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let line = engine(&said);
    assert!(line.starts_with(&format!("Docker {} at unix://", of(&version["Version"]))), "{line}");
    assert!(line.contains(&format!("API {}, storage ", of(&version["ApiVersion"]))), "{line}");
    // A cell may be broken into lines: words stay whole but for long ones.
    let id = of(&image["Id"]);
    let start: String = id.chars().take(16).collect();
    assert!(said.contains(&start), "{said}");
}

#[test]
fn without_an_engine_doctor_says_so_in_a_line_and_ends_well() {
    let said = doctor(Some("unix:///nonexistent/docker.sock"));
    let line = engine(&said);
    assert!(line.starts_with("none for --environment container: no Docker engine answers at unix:///nonexistent/docker.sock"), "{line}");
    assert!(said.contains("would be pulled") && !said.contains("taken: "), "{said}");
}
