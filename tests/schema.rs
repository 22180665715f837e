//! The committed schemas and the pages of the reference are what the binary prints, and every scenario file says where its own is.

use std::path::{Path, PathBuf};

use crate::support::{harness, repository};

/// What `mtls-conformance schema` prints, and where the same is committed.
const COMMITTED: [(&str, &str); 2] = [("scenario", "scenarios/schema.json"), ("report", "harness/report.schema.json")];

#[test]
fn the_committed_schemas_are_current() {
    for (name, file) in COMMITTED {
        let output = harness(&repository(), &["schema", name]).output().expect("the harness runs");
        assert!(output.status.success());
        let path = repository().join(file);
        if std::env::var_os("MTLS_UPDATE_SCHEMA").is_some() {
            std::fs::write(&path, &output.stdout).expect("the schema can be written");
        }
        let committed = std::fs::read(path).expect("the schema is committed");
        assert!(output.stdout == committed, "{file} is stale: run the test with MTLS_UPDATE_SCHEMA=1");
    }
}

/// The pages of `docs/reference/`, and what `mtls-conformance schema` calls them.
const REFERENCE: [&str; 6] = ["scenario", "report", "claims", "credentials", "deviations", "images"];

#[test]
fn the_pages_of_the_reference_are_current() {
    for name in REFERENCE {
        let output = harness(&repository(), &["schema", name, "--markdown"]).output().expect("the harness runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("text");
        let link = printed.lines().find(|line| line.contains("[`"));
        assert_eq!(link, None, "a docstring that the schema takes has a link of rustdoc, which leads nowhere else");
        let file = repository().join(format!("docs/reference/{name}.md"));
        if std::env::var_os("MTLS_UPDATE_SCHEMA").is_some() {
            std::fs::write(&file, &printed).expect("the page can be written");
        }
        let committed = std::fs::read_to_string(&file).expect("the page is committed");
        assert!(committed == printed, "docs/reference/{name}.md is stale: run the test with MTLS_UPDATE_SCHEMA=1");
    }
}

/// Every YAML file below the directory.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).expect("the folder").map(|entry| entry.expect("an entry").path());
    entries
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|it| it == "yaml"))
        .collect()
}

#[test]
fn every_scenario_file_names_the_schema_and_is_one_of_those_that_are_listed() {
    let scenarios = repository().join("scenarios");
    let folders =
        std::fs::read_dir(&scenarios).expect("the folder").map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir());
    let output = harness(&repository(), &["list"]).output().expect("the harness runs");
    assert!(output.status.success(), "all scenarios load: {}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    for file in folders.flat_map(|folder| files(&folder)) {
        let text = std::fs::read_to_string(&file).expect("readable");
        assert_eq!(text.lines().next(), Some("# yaml-language-server: $schema=../schema.json"), "{}", file.display());
        let id = file.strip_prefix(&scenarios).expect("below it").with_extension("").display().to_string();
        assert!(listed.lines().any(|line| line.split_whitespace().next() == Some(&*id)), "{id} is listed");
    }
}
