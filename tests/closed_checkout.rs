//! A toolchain, a cache and places for reports that are root's, and another user who works with them: what is closed to him is said to be, with
//! the way out.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{NOBODY, binary, can_be_another, newest_postgres, repository, toolchain, write};

/// A directory that everybody may read, and the harness in it.
struct Checkout {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Checkout {
    /// `None` where a test can't be another user; says so.
    fn new() -> Option<Self> {
        if !can_be_another() {
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("mtls-conformance");
        std::fs::copy(binary(), &program).expect("copies");
        let checkout = Self { directory, program };
        checkout.set_mode("", 0o755);
        Some(checkout)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    fn set_mode(&self, relative: &str, mode: u32) {
        std::fs::set_permissions(self.path(relative), std::fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// A Python environment with psycopg2, as the set-up leaves it.
    fn with_psycopg2(&self) {
        write(self.directory.path(), "toolchain/python/psycopg2-2.9.12/.complete", "");
        write(self.directory.path(), "toolchain/python/psycopg2-2.9.12/lib/python3/site-packages/psycopg2/__init__.py", "");
        write(self.directory.path(), "toolchain/python/psycopg2-2.9.12/bin/python", "#!/bin/sh\nexit 1\n");
        self.set_mode("toolchain/python/psycopg2-2.9.12/bin/python", 0o755);
    }

    /// Exit code and standard output and error of the harness, run by nobody.
    fn says(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir("/").uid(NOBODY).gid(NOBODY).env_remove("MTLS_CONFORMANCE_CACHE");
        let output = command.output().expect("it runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.code(), text)
    }

    /// What doctor says of this toolchain.
    fn doctor(&self) -> String {
        let toolchain = self.path("toolchain").display().to_string();
        let (_, said) = self.says(&["doctor", "--toolchain", &toolchain, "--cache", "/nonexistent"]);
        said
    }
}

/// A run of one case on its own scenarios.
fn run<'a>(set: &'a str, manifests: &'a str, toolchain: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let args = ["run", "own/*", "--scenarios", set, "--only-given-scenarios", "--manifests", manifests, "--toolchain", toolchain];
    [&args[..], more].concat()
}

#[test]
fn doctor_tells_what_is_closed_from_what_is_missing() {
    let Some(checkout) = Checkout::new() else { return };
    checkout.with_psycopg2();
    let piece = "\n  psycopg2-2.9.12: ";
    let said = checkout.doctor();
    assert!(!said.contains(piece) && !said.contains("closed to"), "{said}");
    let toolchain = checkout.path("toolchain").display().to_string();
    let remedy = format!("as root, run `chmod -R go+rX {toolchain}`; or bring your own with `MTLS_CONFORMANCE_TOOLCHAIN=DIR make setup`");
    for (closed, open) in [
        ("toolchain", 0o755),
        ("toolchain/python", 0o755),
        ("toolchain/python/psycopg2-2.9.12", 0o755),
        ("toolchain/python/psycopg2-2.9.12/bin/python", 0o755),
        ("toolchain/python/psycopg2-2.9.12/lib/python3/site-packages/psycopg2", 0o755),
    ] {
        checkout.set_mode(closed, 0o700);
        let said = checkout.doctor();
        let at = checkout.path(closed);
        let line = format!(
            "every case of that client is skipped, since {} is closed to user nobody (it is root's, mode 0700): {remedy}",
            at.display()
        );
        let (_, listed) = said.split_once("closed to this user:\n").unwrap_or_else(|| panic!("{closed}: {said}"));
        assert!(listed.contains("  psycopg2-2.9.12: psycopg2 2.9.12: ") && listed.contains(&line), "{closed}: {said}");
        checkout.set_mode(closed, open);
    }
    // Behind a link to a place that is somebody else's.
    write(checkout.directory.path(), "home/python", "#!/bin/sh\nexit 1\n");
    checkout.set_mode("home/python", 0o755);
    checkout.set_mode("home", 0o700);
    let interpreter = checkout.path("toolchain/python/psycopg2-2.9.12/bin/python");
    std::fs::remove_file(&interpreter).expect("there");
    std::os::unix::fs::symlink(checkout.path("home/python"), &interpreter).expect("links");
    let said = checkout.doctor();
    let line = format!(
        "{} is closed to user nobody (it is root's, mode 0700): ask root to open it; or bring your own",
        checkout.path("home").display()
    );
    assert!(said.contains(&line), "{said}");
    // What is not there is missing, as before.
    std::fs::remove_dir_all(checkout.path("toolchain/python/psycopg2-2.9.12")).expect("there");
    let said = checkout.doctor();
    assert!(said.contains("  psycopg2-2.9.12: psycopg2 2.9.12: every case of that client is skipped; `make setup` brings it"), "{said}");
}

/// A session, as the deployment has it.
const SCENARIO: &str = "\
id: own/plain
title: Over TLS
claims: []
deployment: documented
matrix:
  driver: [DRIVER]
server:
  pg_hba: [hostssl all all all trust]
steps:
  - connect: {sslmode: require}
    expect:
      - session: {tls: true}
";

fn scenarios(directory: &Path, driver: &str) {
    write(directory, "set/claims.yaml", "claims: []\n");
    write(directory, "set/own/plain.yaml", &SCENARIO.replace("DRIVER", driver));
    let credentials = std::fs::read_to_string(repository().join("scenarios/credentials.yaml")).expect("there");
    write(directory, "set/credentials.yaml", &credentials);
    for (name, text) in crate::support::shipped_manifests() {
        write(&directory.join("manifests"), name.to_str().expect("a name"), &text);
    }
}

#[test]
fn a_run_says_what_is_closed_and_where_else_to_put_things() {
    let Some(checkout) = Checkout::new() else { return };
    let directory = checkout.directory.path();
    scenarios(directory, "psycopg2-2.9.12");
    checkout.with_psycopg2();
    checkout.set_mode("toolchain/python", 0o700);
    let (set, manifests) = (checkout.path("set").display().to_string(), checkout.path("manifests").display().to_string());
    let toolchain = checkout.path("toolchain").display().to_string();
    let (code, said) = checkout.says(&run(&set, &manifests, &toolchain, &["--cache", "/nonexistent"]));
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("driver psycopg2-2.9.12 can't be used here: psycopg2 2.9.12"), "{said}");
    assert!(said.contains("note: /nonexistent/last-run.json could not be written: Permission denied"), "{said}");
    assert!(said.contains("MTLS_CONFORMANCE_CACHE"), "{said}");
    // As `make run` has it, in a checkout of root's.
    std::fs::create_dir(checkout.path("reports")).expect("makes");
    let report = format!("json={}", checkout.path("reports/run.json").display());
    let (code, said) = checkout.says(&run(&set, &manifests, &toolchain, &["--report", &report]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("Permission denied") && said.contains("`--report json=PATH` names another place"), "{said}");
    // A set that is closed.
    checkout.set_mode("set/own/plain.yaml", 0o600);
    let (code, said) = checkout.says(&run(&set, &manifests, &toolchain, &[]));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("set/own/plain.yaml") && said.contains("Permission denied"), "{said}");
}

#[test]
fn a_cache_of_roots_is_told_and_another_does() {
    if newest_postgres().is_none() {
        return;
    }
    let Some(checkout) = Checkout::new() else { return };
    let directory = checkout.directory.path();
    scenarios(directory, "rustls");
    std::fs::create_dir(checkout.path("cache")).expect("makes");
    write(directory, "cache/last-run.json", "{}");
    checkout.set_mode("cache", 0o700);
    let path = |name: &str| checkout.path(name).display().to_string();
    let (set, manifests, cache, own) = (path("set"), path("manifests"), path("cache"), path("own"));
    let toolchain_directory = os::toolchain::Toolchain::default_directory().display().to_string();
    let Some(major) = toolchain().postgres.iter().map(|build| build.major).max() else { return };
    let major = major.to_string();
    let evidence = path("own/evidence");
    std::fs::create_dir(checkout.path("own")).expect("makes");
    std::os::unix::fs::chown(checkout.path("own"), Some(NOBODY), Some(NOBODY)).expect("root gives away");
    let more = ["--postgres", &major, "--evidence", &evidence];
    let (code, said) = checkout.says(&run(&set, &manifests, &toolchain_directory, &[&more[..], &["--cache", &cache]].concat()));
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("Permission denied") && said.contains("--cache DIR or MTLS_CONFORMANCE_CACHE"), "{said}");
    let claims = ["claims", "--scenarios", &set, "--only-given-scenarios", "--cache"];
    let (code, said) = checkout.says(&[&claims[..], &[&cache]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("the last run's verdicts can't be read: {cache} is closed to user nobody")), "{said}");
    let (code, said) = checkout.says(&run(&set, &manifests, &toolchain_directory, &[&more[..], &["--cache", &own]].concat()));
    assert_eq!(code, Some(0), "{said}");
}
