//! Broken environments: what can't run says why and where to read on, and is never taken for a behaviour of the servers.
//!
//! Everything goes through the binary. Servers are scripts in a toolchain folder of the test's own, or the real ones behind a script.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::outcome::{ErrorKind, Outcome, OutcomeKind};
use model::report::Report;
use os::toolchain::Toolchain;

use crate::support::{REPORT, Ran, harness, in_mount_namespace, newest_postgres, open_directory, ran, skipped, toolchain};

/// A toolchain with one PostgreSQL of a major version that no distribution here has: its programs are scripts.
struct Broken {
    directory: tempfile::TempDir,
    major: u16,
}

/// What came of a run.
struct Broke {
    code: i32,
    report: Report,
    said: String,
    directory: PathBuf,
}

impl Broken {
    /// `initdb` makes what looks like a data directory; `serving` is what `postgres` does when it is to serve.
    fn new(serving: &str) -> Option<Self> {
        // Where a distribution's PostgreSQL has the same version, that one is taken: use another.
        let installed = Toolchain::find(Path::new("/nonexistent"));
        let major = [18, 17, 16, 15].into_iter().find(|major| installed.postgres(*major).is_none());
        let Some(major) = major else {
            skipped("the distribution has every version of PostgreSQL: none is left to be broken");
            return None;
        };
        let broken = Self { directory: tempfile::tempdir().expect("a directory"), major };
        // Servers run as another user.
        std::fs::set_permissions(broken.directory.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        broken.program("initdb", "for last; do :; done\nfor word; do case \"$before\" in --pgdata) last=$word;; esac; before=$word; done\necho MAJOR > \"$last/PG_VERSION\"");
        broken.program(
            "postgres",
            &format!("case \"$1\" in --version) echo 'postgres (PostgreSQL) MAJOR.0'; exit 0;; --single) cat > /dev/null; exit 0;; esac\n{serving}"),
        );
        Some(broken)
    }

    /// The real build of a version that no distribution has here, with `postgres` behind a script that ends in `serving`; `REAL` is the
    /// real one's folder.
    fn around_real(serving: &str) -> Option<Self> {
        let broken = Self::new("")?;
        let Some(build) = toolchain().postgres(broken.major).cloned() else {
            skipped("the toolchain has no PostgreSQL of its own; `make setup` brings it");
            return None;
        };
        let real = build.bin.display().to_string();
        broken.program("initdb", &format!("exec {real}/initdb \"$@\""));
        let pass = format!("case \"$1\" in --version|-V|--single|--boot|--check) exec {real}/postgres \"$@\";; esac\n");
        broken.program("postgres", &(pass + &serving.replace("REAL", &real)));
        Some(broken)
    }

    fn bin(&self) -> PathBuf {
        let arch = if cfg!(target_arch = "x86_64") { "x64" } else { "arm64" };
        self.directory.path().join(format!("toolchain/node_modules/postgresql-{}-linux-{arch}/native/bin", self.major))
    }

    fn program(&self, name: &str, script: &str) {
        write_script(&self.bin().join(name), &script.replace("MAJOR", &self.major.to_string()));
    }

    fn command(&self) -> Command {
        let directory = self.directory.path();
        let (major, toolchain) = (self.major.to_string(), directory.join("toolchain").display().to_string());
        let args = ["run", "postgres/documented-rule:*sslmode=verify-full*", "--driver", "rustls", "--postgres", &major];
        let more = ["--toolchain", &toolchain, "--start-timeout", "2"];
        let mut command = harness(directory, &[&args[..], &more[..], &REPORT[..]].concat());
        // Prepared data directories of broken builds are no use to anybody else.
        command.env("MTLS_CONFORMANCE_CACHE", directory.join("cache"));
        command
    }

    fn run(&self) -> Broke {
        broke(self.directory.path(), self.command())
    }
}

fn write_script(path: &Path, script: &str) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    std::fs::write(path, format!("#!/bin/sh\n{script}\n")).expect("writes");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
}

/// Runs it to its end.
fn broke(directory: &Path, command: Command) -> Broke {
    let Ran { code, report, said } = ran(directory, command);
    Broke { code, report, said, directory: directory.to_path_buf() }
}

impl Broke {
    /// Every case is errored with this kind and all these words, the run ends with 3, and no claim has a verdict from it.
    fn assert_errored_with(&self, expected: ErrorKind, words: &[&str]) {
        assert_eq!(self.code, 3, "{}", self.said);
        assert!(!self.report.cases.is_empty(), "{}", self.said);
        for case in &self.report.cases {
            let Outcome::Errored { kind, text: message } = &case.outcome else { panic!("{}: {:?}", case.id, case.outcome) };
            assert_eq!(*kind, expected, "{}: {message}", case.id);
            for word in words {
                assert!(message.contains(word), "{word:?} is in: {message}");
            }
        }
        let judged: usize =
            [OutcomeKind::Pass, OutcomeKind::Fail, OutcomeKind::Deviates].iter().map(|kind| self.report.totals.outcomes[kind]).sum();
        assert_eq!(judged, 0);
        let verdicts = &self.report.totals.claims;
        assert!(verdicts.iter().all(|(verdict, count)| *count == 0 || verdict == "not-exercised"), "{verdicts:?}");
        assert!(self.said.contains(words[0]), "{:?} is told: {}", words[0], self.said);
    }

    /// The log that the errors name is there after the run, and holds this text.
    fn assert_log_holds(&self, text: &str) {
        let Outcome::Errored { text: message, .. } = &self.report.cases[0].outcome else { panic!("{:?}", self.report.cases[0].outcome) };
        let (_, log) = message.rsplit_once("its log: ").unwrap_or_else(|| panic!("a log is named: {message}"));
        let log = std::fs::read_to_string(self.directory.join(log)).unwrap_or_else(|error| panic!("{log}: {error}"));
        assert!(log.contains(text), "{text:?} is in: {log}");
    }
}

#[test]
fn a_server_whose_binary_is_gone_is_an_error() {
    let Some(broken) = Broken::new("") else { return };
    // There when the harness looks for what is installed, gone when it is needed.
    broken.program("postgres", "rm \"$0\"; echo 'postgres (PostgreSQL) MAJOR.0'");
    broken.run().assert_errored_with(ErrorKind::Start, &["did not start", "native/bin/postgres does not exist", "make setup"]);
}

#[test]
fn a_server_that_can_not_be_executed_is_an_error() {
    let Some(broken) = Broken::new("") else { return };
    // Its interpreter is gone, as a shared library's loader would be.
    broken.program("postgres", "sed -i '1s|.*|#!/nonexistent/sh|' \"$0\"; echo 'postgres (PostgreSQL) MAJOR.0'");
    broken.run().assert_errored_with(ErrorKind::Start, &["could not start", "native/bin/postgres", "is it installed"]);
}

#[test]
fn a_server_that_ends_early_is_an_error_with_its_last_words_and_its_log() {
    let Some(broken) = Broken::new("echo 'could not load library libssl.so.1.1' >&2; exit 3") else { return };
    let ran = broken.run();
    ran.assert_errored_with(ErrorKind::Start, &["ended early with exit status: 3", "could not load library libssl.so.1.1"]);
    ran.assert_log_holds("could not load library libssl.so.1.1");
}

#[test]
fn a_server_that_hangs_at_its_start_is_an_error_within_its_limit() {
    let Some(broken) = Broken::new("echo 'thinking' >&2; exec sleep 1000") else { return };
    let ran = broken.run();
    ran.assert_errored_with(ErrorKind::Start, &["was not ready within 2s", "thinking"]);
    ran.assert_log_holds("thinking");
}

#[test]
fn a_preparation_that_fails_is_an_error_with_its_last_words_and_its_log() {
    let Some(broken) = Broken::new("") else { return };
    broken.program("initdb", "echo 'initdb: error: no locale' >&2; exit 1");
    let ran = broken.run();
    ran.assert_errored_with(ErrorKind::Start, &["initdb", "ended with exit status: 1", "initdb: error: no locale"]);
    ran.assert_log_holds("initdb: error: no locale");
}

#[test]
fn a_port_that_is_taken_every_time_is_an_error_with_the_servers_words() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let Some(broken) = Broken::around_real(&format!("exec REAL/postgres \"$@\" -c port={port}")) else { return };
    let ran = broken.run();
    ran.assert_errored_with(ErrorKind::Start, &["is taken", "Address already in use"]);
    ran.assert_log_holds("Address already in use");
}

#[test]
fn a_server_that_ends_when_it_is_reconfigured_is_an_error() {
    // SIGHUP is a new configuration: this script takes it as its end.
    let Some(broken) = Broken::around_real(
        "REAL/postgres \"$@\" & server=$!\ntrap 'kill -QUIT $server; wait $server; exit 4' HUP QUIT TERM\nwait $server; wait $server",
    ) else {
        return;
    };
    let ran = broken.run();
    ran.assert_errored_with(ErrorKind::Lost, &["is no longer usable", "it ended with exit status: 4"]);
    ran.assert_log_holds("ready to accept connections");
}

#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let Some(broken) = Broken::around_real("exec REAL/postgres \"$@\"") else { return };
    // The run directory's file system, as only this run sees it: it says that it has room, but takes too few files for a data directory.
    let mount = "mount -t tmpfs -o size=512m,nr_inodes=120 tmpfs /dev/shm";
    let Some(command) = in_mount_namespace(mount, broken.directory.path(), &broken.command()) else { return };
    broke(broken.directory.path(), command).assert_errored_with(ErrorKind::Start, &["No space left on device"]);
}

#[test]
fn a_redis_that_ends_early_is_an_error_with_its_last_words_and_its_log() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let version = "Redis server v=7.0.15 sha=00000000:0 malloc=libc bits=64 build=0";
    let script = format!("case \"$1\" in --version|-v) echo '{version}'; exit 0;; esac\necho 'Fatal: no TLS here' >&2; exit 1");
    write_script(&directory.path().join("bin/redis-server"), &script);
    let path = format!("{}:{}", directory.path().join("bin").display(), std::env::var("PATH").unwrap_or_default());
    let args = ["run", "redis/plaintext", "--driver", "redis-rs", "--start-timeout", "2", "--report", "json=report.json"];
    let mut command = harness(directory.path(), &args);
    command.env("PATH", path);
    let ran = broke(directory.path(), command);
    ran.assert_errored_with(ErrorKind::Start, &["redis-documented did not start", "ended early with exit status: 1", "Fatal: no TLS here"]);
    ran.assert_log_holds("Fatal: no TLS here");
}

#[test]
fn a_client_that_can_not_be_started_is_an_error() {
    if newest_postgres().is_none() {
        return;
    }
    let directory = open_directory();
    let client = directory.path().join("client");
    std::fs::write(&client, "#!/bin/sh\nexit 3\n").expect("writes");
    std::fs::set_permissions(&client, std::fs::Permissions::from_mode(0o755)).expect("permits");
    let args = [
        "run",
        "postgres/documented-rule:*sslmode=disable*",
        "--driver",
        "mine",
        "--exec-driver",
        "mine=./client",
        "--report",
        "json=report.json",
    ];
    let ran = broke(directory.path(), harness(directory.path(), &args));
    ran.assert_errored_with(ErrorKind::Client, &["driver mine could not be started", "client"]);
}

#[test]
fn a_report_that_can_not_be_written_ends_with_3_and_names_the_file() {
    if newest_postgres().is_none() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let args = ["run", "redis/plaintext", "--driver", "redis-rs", "--report", "junit=/dev/full"];
    let output = harness(directory.path(), &args).output().expect("the harness runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("/dev/full") && said.contains("No space left on device"), "{said}");
}
