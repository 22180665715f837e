//! Data directories made once and copied for every server.
//!
//! `initdb` takes most of a second, a copy some tens of milliseconds. A result is kept under a name that says what it was made from:
//! version, the `postgres` file's size and time, and the options and statements that it is made with. It comes into being by a rename, so whoever sees it sees all of it;
//! a lock file keeps others from making the same thing at the same time.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::error::{DataError, Failure, MachineError};
use crate::servers::data_directory::{LIMIT, OPTIONS, ROLES, SINGLE};
use os::child::{ChildSpec, Pipes, tail};
use os::toolchain::PostgresBuild;
use os::user::RunAs;
use os::{poll, tree};

/// The prepared data directory in `cache` for this build, made now if it isn't there. `bin` holds the build's programs as `user` can run
/// them; `scratch` is where that user may work.
pub(super) async fn prepared(
    build: &PostgresBuild,
    bin: &Path,
    user: Option<&RunAs>,
    cache: &Path,
    scratch: &Path,
) -> Result<PathBuf, Failure> {
    let unusable = |action, path: &Path, error: io::Error| {
        Failure::new(DataError::Cache { action, path: path.to_path_buf(), source: Arc::new(error) }, path)
    };
    let name = name(build, bin).map_err(|error| Failure::new(MachineError::file("look at", bin)(error), bin))?;
    let ready = cache.join(&name);
    if let Some(other) = owner_if_another(&ready) {
        let foreign = io::Error::other(format!("it belongs to user {other}, who could have put anything into it"));
        return Err(unusable("use", &ready, foreign));
    }
    // Unreadable is as good as missing: then the lock below says what is wrong.
    if ready.join("PG_VERSION").is_file() {
        return Ok(ready);
    }
    tree::make_private_directories(cache).map_err(|error| unusable("make", cache, error))?;
    let lock_path = cache.join(format!("{name}.lock"));
    let lock = lock(&lock_path).await.map_err(|error| unusable("lock", &lock_path, error))?;
    if !ready.join("PG_VERSION").is_file() {
        let made = make(build, bin, user, scratch).await?;
        let partial = cache.join(format!("{name}.partial"));
        let (from, to, ready) = (made.clone(), partial.clone(), ready.clone());
        let kept = tokio::task::spawn_blocking(move || {
            // What a killed process has left: the lock is ours.
            let _ = tree::remove(&to, Duration::ZERO);
            tree::copy(&from, &to, None)?;
            std::fs::rename(&to, &ready).map_err(MachineError::file("give its final name to", &to))?;
            let _ = tree::remove(&from, Duration::from_secs(1));
            Ok::<(), DataError>(())
        });
        match kept.await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => {
                let _ = tree::remove(&partial, Duration::ZERO);
                return Err(Failure::new(DataError::Keep { source: Box::new(source) }, &partial));
            }
            Err(error) => return Err(Failure::new(DataError::from(error), &partial)),
        }
    }
    drop(lock);
    Ok(ready)
}

/// Who has put a prepared data directory there, if it was not us.
fn owner_if_another(ready: &Path) -> Option<u32> {
    let owner = std::fs::symlink_metadata(ready).ok()?.uid();
    (owner != nix::unistd::geteuid().as_raw()).then_some(owner)
}

/// What the result depends on, as a file name.
fn name(build: &PostgresBuild, bin: &Path) -> io::Result<String> {
    // A copied build (see `build`) has the times of the copy: look at the original.
    let status = std::fs::metadata(build.bin.join("postgres")).or_else(|_| std::fs::metadata(bin.join("postgres")))?;
    let made_from = format!("{}|{}|{}|{OPTIONS:?}|{ROLES:?}|{SINGLE:?}|{MAPS:?}|no old WAL", build.version, status.len(), status.mtime());
    let digest = Sha256::digest(made_from.as_bytes());
    let short: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    // As read by another user it would be no use: files are the maker's alone.
    Ok(format!("postgres-{}-uid{}-{short}", build.major, nix::unistd::geteuid()))
}

/// Waits for the lock; the holder is making what we need.
async fn lock(path: &Path) -> io::Result<Flock<File>> {
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(path)?;
    let mut file = Some(file);
    let locked = poll::until("the lock", LIMIT, Duration::from_millis(10), || {
        let taken = match file.take() {
            Some(free) => Flock::lock(free, FlockArg::LockExclusiveNonblock).map_err(|(back, error)| {
                file = Some(back);
                error.to_string()
            }),
            None => Err("no file".to_owned()),
        };
        async move { taken }
    });
    locked.await.map_err(|timeout| io::Error::new(io::ErrorKind::TimedOut, timeout))
}

/// Makes a data directory in `scratch`.
async fn make(build: &PostgresBuild, bin: &Path, user: Option<&RunAs>, scratch: &Path) -> Result<PathBuf, Failure> {
    let name = format!("initdb-{}-{}", build.major, std::process::id());
    let work = scratch.join(&name);
    let log = scratch.join(format!("{name}.log"));
    let _ = tree::remove(&work, Duration::ZERO);
    tree::make_directory(&work, 0o700, user).map_err(|error| Failure::new(MachineError::file("make", &work)(error), &log))?;
    let spec = |program: &str| ChildSpec {
        user: user.cloned(),
        directory: Some(work.clone()),
        stop_signal: Signal::SIGINT,
        ..ChildSpec::new(bin.join(program), &log)
    };
    let initdb = OPTIONS.iter().fold(spec("initdb").arg("--pgdata").arg(&work), |spec, option| spec.arg(*option));
    run(initdb, None).await?;
    let single = SINGLE.iter().fold(spec("postgres").arg("--single").arg("-D").arg("."), |spec, setting| spec.arg("-c").arg(*setting));
    // Single-user mode takes one command a line.
    run(single.arg("postgres"), Some(ROLES.join("\n") + "\n")).await?;
    leave_out_maps(&work).and_then(|()| leave_out_old_wal(&work)).map_err(|error| Failure::new(error, &log))?;
    Ok(work)
}

/// What is in a directory; nothing where there is none.
fn list(directory: &Path) -> Result<Vec<PathBuf>, MachineError> {
    let files = || -> io::Result<Vec<PathBuf>> { std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect() };
    match files() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        files => files.map_err(MachineError::file("list", directory)),
    }
}

/// Removes the WAL segments that are to be filled later: old ones under a new name, with their old contents. The server makes new ones when it
/// needs them.
fn leave_out_old_wal(data: &Path) -> Result<(), MachineError> {
    for file in list(&data.join("pg_wal"))? {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let Some(address) = first_address(&name) else { continue };
        let mut head = [0; 16];
        let read = File::open(&file).and_then(|mut file| io::Read::read_exact(&mut file, &mut head));
        read.map_err(MachineError::file("read", &file))?;
        // XLogPageHeaderData (src/include/access/xlog_internal.h): magic number, flags, timeline, and from the ninth byte on its address.
        let [.., a, b, c, d, e, f, g, h] = head;
        if u64::from_ne_bytes([a, b, c, d, e, f, g, h]) != address {
            std::fs::remove_file(&file).map_err(MachineError::file("remove", &file))?;
        }
    }
    Ok(())
}

/// Where a WAL segment of one megabyte begins, by its name: timeline, the address's upper half and the megabyte in its lower half, in hex.
fn first_address(name: &str) -> Option<u64> {
    let upper = u64::from_str_radix(name.get(8..16)?, 16).ok()?;
    let megabyte = u64::from_str_radix(name.get(16..24)?, 16).ok()?;
    (name.len() == 24).then_some(upper << 32 | megabyte << 20)
}

/// How the names of free space maps and visibility maps end (PostgreSQL manual, "Database Physical Storage").
const MAPS: [&str; 2] = ["_fsm", "_vm"];

/// Removes free space maps and visibility maps: a fifth of the directory. Servers do without, and make them anew when they need them.
fn leave_out_maps(data: &Path) -> Result<(), MachineError> {
    let mut directories = list(&data.join("base"))?;
    directories.push(data.join("global"));
    for directory in directories {
        for file in list(&directory)? {
            if MAPS.iter().any(|end| file.to_string_lossy().ends_with(end)) {
                std::fs::remove_file(&file).map_err(MachineError::file("remove", &file))?;
            }
        }
    }
    Ok(())
}

/// Runs a program to its end.
async fn run(spec: ChildSpec, input: Option<String>) -> Result<(), Failure> {
    let command = spec.command_line();
    let log = spec.log.clone();
    let pipes = if input.is_some() { Pipes::Lines } else { Pipes::Log };
    let mut child = ChildSpec { pipes, ..spec }.spawn().await.map_err(|error| Failure::new(MachineError::from(error), &log))?;
    let pipes = child.take_pipes();
    let finished = async {
        if let (Some((mut stdin, mut stdout)), Some(input)) = (pipes, input) {
            // A program that ends early closes the pipe; its exit status says why.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            let mut said = Vec::new();
            let _ = stdout.read_to_end(&mut said).await;
        }
        child.wait().await
    };
    let cause = match tokio::time::timeout(LIMIT, finished).await {
        Ok(Ok(status)) if status.success() => return Ok(()),
        Ok(Ok(status)) => DataError::Failed { command, status, said: tail(&log, 8) },
        Ok(Err(error)) => DataError::Wait { command, source: Arc::new(error) },
        Err(_) => {
            child.stop(Duration::from_secs(1)).await;
            DataError::Slow { command, limit: LIMIT, said: tail(&log, 8) }
        }
    };
    Err(Failure::new(cause, log))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_segment_is_left_out_where_it_holds_what_another_held() {
        let data = tempfile::tempdir().expect("a directory");
        let wal = data.path().join("pg_wal");
        std::fs::create_dir_all(wal.join("archive_status")).expect("makes");
        let segment = |name: &str, address: u64| {
            // As PostgreSQL 17 writes it: magic number, flags, timeline.
            let head = [0x16, 0xd1, 2, 0, 1, 0, 0, 0];
            std::fs::write(wal.join(name), [&head[..], &address.to_ne_bytes(), &[0; 100]].concat()).expect("writes");
        };
        segment("000000010000000000000005", 0x50_0000);
        segment("000000010000000000000006", 0x10_0000);
        segment("000000010000000200000007", 0x2_0070_0000);
        std::fs::write(wal.join("00000002.history"), "").expect("writes");
        leave_out_old_wal(data.path()).expect("it can");
        let mut left: Vec<String> =
            std::fs::read_dir(&wal).expect("there").flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        left.sort();
        assert_eq!(left, ["000000010000000000000005", "000000010000000200000007", "00000002.history", "archive_status"]);
    }
}
