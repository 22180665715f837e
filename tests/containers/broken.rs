//! What can't run in containers says why, and leaves nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use model::outcome::{ErrorKind, Outcome, SkipReason};

use super::ends::CONTAINERS;
use super::outside::{IMAGES, Outside};
use crate::support::middle::processes_that_name;
use crate::support::{PATIENCE, REPORT, Ran, harness, ran, until};

/// A registry of this machine, where nobody listens.
const NOWHERE: &str = "127.0.0.1:1/nothing:1";

#[test]
fn without_an_engine_the_run_ends_as_an_environment_error_that_says_what_to_do_and_leaves_nothing() {
    let before = abandoned();
    let (code, said) = with_engine_at("unix:///nonexistent/docker.sock");
    assert_eq!(code, 3, "{said}");
    assert!(said.starts_with("error: no Docker engine answers at unix:///nonexistent/docker.sock: "), "{said}");
    assert!(said.contains("`systemctl start docker`") && said.contains("DOCKER_HOST"), "{said}");
    until("the end of its run directory", PATIENCE, || {
        let left: Vec<_> = abandoned().difference(&before).cloned().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

#[test]
fn an_engine_that_may_be_on_another_machine_is_refused() {
    for host in ["tcp://127.0.0.1:1", "ssh://somebody@127.0.0.1:1"] {
        let (code, said) = with_engine_at(host);
        assert_eq!(code, 3, "{said}");
        assert!(said.starts_with(&format!("error: the Docker engine at {host} can't be used: ")) && said.contains("unix://"), "{said}");
    }
}

/// What a run says whose engine should be there, and its exit code.
fn with_engine_at(host: &str) -> (i32, String) {
    let directory = tempfile::tempdir().expect("a directory");
    let args = ["run", "redis/sources", "--driver", "redis-rs", "--environment", "container"];
    let output = harness(directory.path(), &args).env("DOCKER_HOST", host).output().expect("the harness runs");
    (output.status.code().expect("a code"), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Run directories that no process names: neither a harness's children nor a watcher.
fn abandoned() -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("mtls-conformance-")));
    ours.filter(|path| processes_that_name(path).is_empty()).collect()
}

/// Cases of PostgreSQL 17 and Redis, with these images.
fn with_images(images: &[&str]) -> Ran {
    let directory = tempfile::tempdir().expect("a directory");
    let mut args = vec!["run", "postgres/unset", "redis/sources", "--postgres", "17", "--driver", "rustls,redis-rs"];
    args.extend(images.iter().flat_map(|image| ["--image", image]));
    ran(directory.path(), harness(directory.path(), &[&args[..], &CONTAINERS, &REPORT].concat()))
}

/// The distinct outcomes of a service's cases.
fn outcomes<'a>(ran: &'a Ran, service: &str) -> BTreeMap<String, &'a Outcome> {
    let cases = ran.report.cases.iter().filter(|case| case.id.starts_with(service));
    cases.map(|case| (format!("{:?}", case.outcome), &case.outcome)).collect()
}

#[test]
fn an_image_that_can_not_be_had_skips_its_cases_with_what_was_tried_and_no_others() {
    if Outside::here(&IMAGES).is_none() {
        return;
    }
    let ran = with_images(&[&format!("postgres-17={NOWHERE}")]);
    assert_eq!(ran.code, 0, "{}", ran.said);
    let skipped = outcomes(&ran, "postgres/");
    let [Outcome::Skipped(SkipReason::ServerMissing(reason))] = skipped.values().copied().collect::<Vec<_>>()[..] else {
        panic!("{skipped:?}");
    };
    assert!(reason.contains(NOWHERE) && reason.contains("can't be pulled") && reason.contains("kind/images/build.sh"), "{reason}");
    assert_eq!(outcomes(&ran, "redis/").into_values().collect::<Vec<_>>(), [&Outcome::Pass]);
}

/// An image made of these files, removed at the end.
struct Made<'a> {
    outside: &'a Outside,
    reference: String,
}

impl<'a> Made<'a> {
    fn new(outside: &'a Outside, name: &str, files: &[(&str, PathBuf)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut archive = tar::Builder::new(std::fs::File::create(directory.path().join("image.tar")).expect("makes"));
        for (path, file) in files {
            archive.append_path_with_name(file, path).expect("appends");
        }
        archive.finish().expect("writes");
        let repository = format!("mtls-conformance-test/{name}");
        let tag = std::process::id();
        let file = format!("@{}", directory.path().join("image.tar").display());
        let send = ["--header", "Content-Type: application/x-tar", "--data-binary", &file];
        outside.ask(&format!("images/create?fromSrc=-&repo={repository}&tag={tag}"), &send).expect("imports");
        Self { outside, reference: format!("{repository}:{tag}") }
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        self.outside.remove(&format!("images/{}", self.reference));
    }
}

#[test]
fn an_image_that_can_not_run_the_harness_is_an_error_that_says_what_an_image_needs() {
    let Some(outside) = Outside::here(&IMAGES) else { return };
    // The loader stands for a C library that the binary can't use: it says so in its own words.
    let loader = std::fs::canonicalize("/lib64/ld-linux-x86-64.so.2").unwrap_or_default();
    let text = std::fs::canonicalize("/etc/hostname").expect("is there");
    let none = Made::new(&outside, "no-libc", &[("text", text)]);
    let unusable = loader.is_file().then(|| Made::new(&outside, "unusable-libc", &[("lib64/ld-linux-x86-64.so.2", loader)]));
    for (image, found) in [(Some(none), "exec /harness/mtls-conformance failed"), (unusable, "error while loading shared libraries")] {
        let Some(image) = image else { continue };
        let ran = with_images(&[&format!("redis={}", image.reference)]);
        assert_eq!(ran.code, 3, "{}", ran.said);
        let errored = outcomes(&ran, "redis/");
        let [Outcome::Errored { kind: ErrorKind::Start, text: reason }] = errored.values().copied().collect::<Vec<_>>()[..] else {
            panic!("{errored:?}")
        };
        assert!(reason.contains(&image.reference) && reason.contains(found), "{reason}");
        assert!(reason.contains("the image must be of Linux with a glibc that is no older than this machine's"), "{reason}");
        let others = outcomes(&ran, "postgres/");
        let good = |outcome: &&Outcome| matches!(outcome, Outcome::Pass | Outcome::Deviates { .. });
        assert!(!others.is_empty() && others.values().all(good), "others go on: {}", ran.said);
    }
}
