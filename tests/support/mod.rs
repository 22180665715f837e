//! What the tests share: the harness as a process, and waiting for conditions.

pub(crate) mod fakes;
pub(crate) mod middle;
pub(crate) mod world;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::report::Report;
use os::toolchain::{PostgresBuild, Toolchain};

/// How long anything may take that a test waits for: far above what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The harness as it was built with this test.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mtls-conformance"))
}

/// What is installed, looked for anew at each call.
pub(crate) fn toolchain() -> Toolchain {
    Toolchain::find(&Toolchain::default_directory())
}

/// A PostgreSQL to test with: the newest there is, or a line that says why the test shows nothing.
pub(crate) fn newest_postgres() -> Option<PostgresBuild> {
    let newest = toolchain().postgres.into_iter().max_by_key(|build| build.major);
    if newest.is_none() {
        skipped("no PostgreSQL is installed; `make setup` brings it");
    }
    newest
}

/// A directory that clients can look into, which run as another user than root.
pub(crate) fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    directory
}

/// The number of `nobody`, who has no files and no group of ours.
pub(crate) const NOBODY: u32 = 65_534;

/// Whether a test can be another user; says why not.
pub(crate) fn can_be_another() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        skipped("only root can be another user");
    }
    is_root
}

/// The scenario `own/trust`, whose rule trusts everybody. It is wrong about its plaintext session, so that its one case fails and leaves evidence.
pub(crate) const TRUSTS_AND_FAILS: &str = "\
id: own/trust
title: A rule that trusts everybody
claims: []
deployment: documented
matrix:
  driver: [rustls]
server:
  pg_hba: [host all all all trust]
steps:
  - connect: {sslmode: disable}
    expect:
      - session: {tls: true}
";

/// Writes a file below a directory, with the folders that it needs.
pub(crate) fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join(file);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("makes");
    std::fs::write(path, text).expect("writes");
}

/// The shipped manifests: each file's name below their folder, and its text.
pub(crate) fn shipped_manifests() -> BTreeMap<PathBuf, String> {
    let root = repository().join("kind/deployment");
    let mut files = BTreeMap::new();
    for folder in ["", "site"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("the folder") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "yaml") {
                let name = Path::new(folder).join(path.file_name().expect("a name"));
                files.insert(name, std::fs::read_to_string(&path).expect("readable"));
            }
        }
    }
    files
}

/// Writes manifests into a folder.
pub(crate) fn write_manifests(folder: &Path, files: &BTreeMap<PathBuf, String>) {
    for (name, text) in files {
        write(folder, name.to_str().expect("a name"), text);
    }
}

/// A command that runs in a mount namespace of its own, after these mounts; `None`, said as a skip, where nothing can be mounted.
pub(crate) fn in_mount_namespace(mounts: &str, directory: &Path, inner: &Command) -> Option<Command> {
    let namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]);
        command
    };
    match namespace(mounts).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            skipped(&format!("no file system can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim()));
            return None;
        }
        Err(error) => {
            skipped(&format!("unshare: {error}"));
            return None;
        }
    }
    let mut command = namespace(&format!("{mounts} && exec \"$@\""));
    command.arg(inner.get_program()).args(inner.get_args()).current_dir(directory);
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(command)
}

/// Says why a test shows nothing here, past libtest's capture: libtest itself can only say `ok`.
pub(crate) fn skipped(reason: &str) {
    let name = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "skipped {name}: {reason}");
}

/// The same for what CI brings: there a test that shows nothing is a failure.
#[cfg(feature = "container")]
pub(crate) fn not_in_ci(reason: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI there is an engine with images: {reason}");
    skipped(reason);
}

/// A cache of the tests' own: the last run that `claims` shows must stay the user's.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// The harness with these arguments, working in `directory`.
pub(crate) fn harness(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command
        .args(args)
        .current_dir(directory)
        .env("MTLS_CONFORMANCE_CACHE", cache())
        .env("MTLS_CONFORMANCE_TOOLCHAIN", Toolchain::default_directory())
        .stdin(Stdio::null());
    command
}

/// Exit code, standard output and standard error of the binary.
pub(crate) fn harness_says(directory: &Path, args: &[&str]) -> (i32, String, String) {
    let output = harness(directory, args).output().expect("the harness runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
}

/// What a finished harness said, and its report.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) report: Report,
    /// All that it wrote to standard error.
    pub(crate) said: String,
}

/// The arguments that make a harness write the report that [`ran`] reads.
pub(crate) const REPORT: [&str; 2] = ["--report", "json=report.json"];

/// Runs a harness that works in `directory` and was given [`REPORT`] to its end.
pub(crate) fn ran(directory: &Path, mut command: Command) -> Ran {
    let output = command.output().expect("the harness runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = std::fs::read(directory.join("report.json")).unwrap_or_else(|error| panic!("{error}\n{said}"));
    let report = serde_json::from_slice(&report).expect("a report");
    Ran { code: output.status.code().expect("a code"), report, said }
}

/// Asks `probe` again and again until it gives a value; its last error is told where it never does.
pub(crate) fn until<T, E: Display>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match probe() {
            Ok(value) => return value,
            Err(last) => assert!(start.elapsed() < limit, "waited {limit:?} for {what}; last seen: {last}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A harness that runs beside the test; killed when the test gives up.
pub(crate) struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Running {
    /// Starts it; what it says on standard error is kept.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the harness starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().expect("a pipe"), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut said = sink.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { child, said }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has said all these texts.
    pub(crate) fn wait_for_texts(&mut self, texts: &[&str]) {
        until(&format!("{texts:?}"), PATIENCE, || {
            let said = self.said();
            let ended = self.child.try_wait().expect("waits");
            if texts.iter().all(|text| said.contains(text)) { Ok(()) } else { Err(format!("ended {ended:?}, said\n{said}")) }
        });
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.wait_for(PATIENCE)
    }

    /// Waits for its end, where that takes longer.
    pub(crate) fn wait_for(&mut self, limit: Duration) -> ExitStatus {
        until("the harness's end", limit, || self.child.try_wait().expect("waits").ok_or_else(|| self.said()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nothing to do where it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
