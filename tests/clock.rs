//! Servers and clients whose clocks are not the harness's: a certificate that it issues is valid for them all the same.
//!
//! Where this matters on one machine: time(2) gives the kernel's coarse clock, some milliseconds behind, and OpenSSL asks it. A certificate
//! that begins with the second of its issue is "not yet valid" to a server that is shown it in the first milliseconds of that second.

use std::path::Path;
use std::process::Command;

use os::toolchain::Toolchain;

use crate::support::{in_mount_namespace, repository, skipped, toolchain};

/// Preloaded into every program of the run: shifts the clock of those that are servers or clients, and leaves their names in a file. The
/// harness itself, which issues the certificates, keeps the machine's.
const SHIFTED_CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int shifted;

__attribute__((constructor)) static void begin(void) {
    char line[4096] = {0};
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, line, sizeof line - 1);
    if (file >= 0) close(file);
    if (length <= 0) return;
    // The program, and its first argument: what follows names files of the run.
    const char *slash = strrchr(line, '/'), *program = slash ? slash + 1 : line, *argument = line + strlen(line) + 1;
    const char *name = strcmp(argument, "libpq-client") == 0 ? argument
        : strcmp(program, "postgres") == 0 || strcmp(program, "redis-server") == 0 || strncmp(program, "python", 6) == 0 ? program
        : NULL;
    if (!name) return;
    shifted = 1;
    file = open(SEEN, O_WRONLY | O_APPEND);
    if (file >= 0) { dprintf(file, "%s\n", name); close(file); }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (shifted && result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += SHIFT;
    return result;
}

int gettimeofday(struct timeval *now, void *zone) {
    (void)zone;
    struct timespec precise;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *out) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// The overlay that lets the loader find the library, in this mount namespace alone; the first argument is the folder of both.
fn mounts(folder: &Path) -> String {
    let folder = folder.display();
    format!("mount -t overlay overlay -o lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work /etc")
}

/// Builds the library with this shift in seconds; `None`, said as a skip, without a C compiler.
fn built(folder: &Path, shift: i32) -> Option<()> {
    let (source, library, seen) = (folder.join("clock.c"), folder.join("clock.so"), folder.join("seen"));
    std::fs::write(&source, SHIFTED_CLOCK).expect("writes");
    std::fs::write(&seen, "").expect("writes");
    // Servers are other users, and must find both.
    let open = |path: &Path, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("is ours");
    };
    open(&seen, 0o666);
    open(folder, 0o755);
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", &format!("-DSHIFT=({shift})"), &format!("-DSEEN=\"{}\"", seen.display())])
        .arg("-o")
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .output();
    match compiled {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => {
            skipped(&format!("no C compiler, which shifts the clock: {error}"));
            return None;
        }
    }
    for directory in ["upper", "work"] {
        std::fs::create_dir(folder.join(directory)).expect("makes");
        open(&folder.join(directory), 0o755);
    }
    std::fs::write(folder.join("upper/ld.so.preload"), format!("{}\n", library.display())).expect("writes");
    open(&folder.join("upper/ld.so.preload"), 0o644);
    Some(())
}

/// Runs what shows every moment at which a run issues something, with clocks shifted by so many seconds.
fn conforms_with_a_shift_of(shift: i32, directory: &Path, toolchain: &Toolchain) {
    let Some(()) = built(directory, shift) else { return };
    let newest = toolchain.postgres.iter().map(|build| build.major).max().expect("looked for before").to_string();
    let mut run =
        crate::support::harness(&repository(), &["run", "postgres/documented-rule", "redis/client-certificate", "renewal/client-leaf"]);
    run.args(["--postgres", &newest, "--evidence"]).arg(directory.join("evidence"));
    let Some(mut command) = in_mount_namespace(&mounts(directory), &repository(), &run) else { return };
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "with clocks shifted by {shift} s: {said}");
    let seen = std::fs::read_to_string(directory.join("seen")).expect("the library's");
    for program in ["postgres", "libpq-client", "redis-server", "python"] {
        assert!(seen.lines().any(|line| line.starts_with(program)), "the clock of {program} was not shifted: {said}");
    }
}

#[test]
fn clocks_that_are_behind_or_ahead_change_no_verdict() {
    let toolchain = toolchain();
    if toolchain.postgres.is_empty() {
        return skipped("no PostgreSQL is installed; `make setup` brings it");
    }
    for shift in [-2, 2] {
        let directory = tempfile::tempdir().expect("a directory");
        conforms_with_a_shift_of(shift, directory.path(), &toolchain);
    }
}
