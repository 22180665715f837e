//! A PostgreSQL build that the servers' user can run: where it lies, or a copy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use os::child::{ChildSpec, tail};
use os::toolchain::PostgresBuild;
use os::tree;
use os::user::RunAs;

use crate::error::{DataError, Failure, MachineError};

/// The time that `postgres --version` gets; it takes single milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// The directory of `postgres` and `initdb` that `user` can run: the build's own, or a copy of the build below `scratch`, where its
/// place can't be reached by that user (below another's home directory). Runs it once, so that a broken build is told by its own words
/// and a wrong version before anything depends on it.
pub(super) async fn usable(build: &PostgresBuild, user: Option<&RunAs>, scratch: &Path) -> Result<PathBuf, Failure> {
    let program = build.bin.join("postgres");
    if !program.is_file() {
        return Err(Failure::new(DataError::NoProgram { program }, scratch));
    }
    let bin = match user {
        Some(user) if !(tree::reachable(&build.bin, user)) => copy(build, user, scratch).await?,
        _ => build.bin.clone(),
    };
    let log = scratch.join(format!("postgres-{}.version.log", build.major));
    let spec = ChildSpec { user: user.cloned(), directory: Some(scratch.to_path_buf()), ..ChildSpec::new(bin.join("postgres"), &log) };
    let command = spec.command_line() + " --version";
    let mut child = spec.arg("--version").spawn().await.map_err(|error| Failure::new(MachineError::from(error), &log))?;
    let Ok(status) = tokio::time::timeout(LIMIT, child.wait()).await else {
        child.stop(Duration::from_millis(100)).await;
        return Err(Failure::new(DataError::Slow { command, limit: LIMIT, said: tail(&log, 5) }, &log));
    };
    let said = tail(&log, 5);
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(Failure::new(DataError::Failed { command, status, said }, &log)),
        Err(error) => return Err(Failure::new(DataError::Wait { command, source: Arc::new(error) }, &log)),
    }
    if major_of(&said) != Some(build.major) {
        return Err(Failure::new(DataError::WrongVersion { command, major: build.major, said }, &log));
    }
    Ok(bin)
}

/// Copies the build: `bin` with its sisters `lib` and `share`.
async fn copy(build: &PostgresBuild, user: &RunAs, scratch: &Path) -> Result<PathBuf, Failure> {
    let Some(root) = build.bin.parent() else {
        return Err(Failure::new(DataError::NoParent { bin: build.bin.clone() }, scratch));
    };
    let (root, target) = (root.to_path_buf(), scratch.join(format!("build-{}", build.major)));
    let (bin, owner) = (target.join("bin"), user.clone());
    let copied = tokio::task::spawn_blocking(move || {
        tree::make_directory(&target, 0o755, None).map_err(MachineError::file("make", &target))?;
        for part in ["bin", "lib", "share"] {
            let from = root.join(part);
            if from.is_dir() {
                tree::copy(&from, &target.join(part), Some(&owner))?;
                // `initdb` runs as a user of the same group that has a name.
                tree::share_with_group(&target.join(part)).map_err(MachineError::file("set the mode of", &target.join(part)))?;
            }
        }
        Ok::<(), DataError>(())
    });
    match copied.await {
        Ok(Ok(())) => Ok(bin),
        Ok(Err(source)) => {
            let unreachable = DataError::Unreachable { user: user.name.clone(), bin: build.bin.clone(), source: Box::new(source) };
            Err(Failure::new(unreachable, scratch))
        }
        Err(error) => Err(Failure::new(DataError::from(error), scratch)),
    }
}

/// The major version in `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` or `postgres (PostgreSQL) 19beta1`.
fn major_of(said: &str) -> Option<u16> {
    let version = said.split("(PostgreSQL) ").nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(major_of("postgres (PostgreSQL) 17.10"), Some(17));
        assert_eq!(major_of("postgres (PostgreSQL) 19beta1"), Some(19));
        assert_eq!(major_of("hello"), None);
    }
}
