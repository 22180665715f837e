//! Data directories of PostgreSQL in containers: made once for every image by its own `initdb`, kept as an archive, and unpacked afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::servers::Failure;
use crate::servers::recipe::{LIMIT, OPTIONS, ROLES, SINGLE};
use agent::{Agent, DirectorySpec, Owner};
use os::child::ChildSpec;
use os::toolchain::PostgresBuild;
use os::user::RunAs;

/// Archives by image.
pub(super) struct Archives {
    directory: PathBuf,
    /// Held while one is made: others that need it wait for it.
    by_image: Mutex<BTreeMap<String, Arc<Mutex<()>>>>,
}

impl Archives {
    /// Kept in this directory, from run to run.
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, by_image: Mutex::default() }
    }

    /// Makes a data directory at `data`, which belongs to `user`.
    pub(super) async fn make(
        &self,
        agent: &Agent,
        image: &str,
        build: &PostgresBuild,
        user: Option<&RunAs>,
        data: &Path,
    ) -> Result<(), Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| Failure::new(format!("{what}: {error}"), data);
        let owner = user.map(Owner::from);
        let archive = self.directory.join(name(image, build, user));
        let turn = Arc::clone(self.by_image.lock().await.entry(image.to_owned()).or_default());
        let turn = turn.lock().await;
        if !archive.is_file() {
            let directory = DirectorySpec { path: data.to_path_buf(), mode: 0o700, owner };
            agent.make_directories(&[directory]).await.map_err(|error| failed("could not make the data directory", &error))?;
            initdb(agent, build, user, data).await?;
            self.keep(agent, data, &archive).await?;
            return Ok(());
        }
        drop(turn);
        let what = format!("could not unpack the prepared data directory {} (delete it, and it is made anew)", archive.display());
        agent.unpack(&archive, data, owner).await.map_err(|error| failed(&what, &error))
    }

    async fn keep(&self, agent: &Agent, data: &Path, archive: &Path) -> Result<(), Failure> {
        let unusable = |error: &dyn std::fmt::Display| {
            let advice = "the cache directory must be writable: free space, correct its owner, or name another";
            Failure::new(format!("could not keep a prepared data directory as {}: {error}; {advice}", archive.display()), archive)
        };
        std::fs::create_dir_all(&self.directory).map_err(|error| unusable(&error))?;
        // Others may make the same at this time: whoever comes last puts an equal one in its place.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let partial = archive.with_extension(format!("{}-{}.partial", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let packed = agent.pack(data, &partial).await.map_err(|error| unusable(&error));
        let kept = packed.and_then(|()| std::fs::rename(&partial, archive).map_err(|error| unusable(&error)));
        if kept.is_err() {
            // It may not be there at all.
            let _ = std::fs::remove_file(&partial);
        }
        kept
    }
}

/// What the archive depends on, as a file name.
fn name(image: &str, build: &PostgresBuild, user: Option<&RunAs>) -> String {
    let recipe = format!("{image}|{}|{:?}|{OPTIONS:?}|{ROLES:?}|{SINGLE:?}", build.version, user.map(|user| user.uid));
    let digest = Sha256::digest(recipe.as_bytes());
    let short: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("container-postgres-{}-{short}.tar", build.major)
}

async fn initdb(agent: &Agent, build: &PostgresBuild, user: Option<&RunAs>, data: &Path) -> Result<(), Failure> {
    let spec = |program: &str| ChildSpec {
        user: user.cloned(),
        directory: Some(data.to_path_buf()),
        stop_signal: Signal::SIGINT,
        // Its output comes back with its end.
        ..ChildSpec::new(build.bin.join(program), "/dev/null")
    };
    let initdb = OPTIONS.iter().fold(spec("initdb").arg("--pgdata").arg(data), |spec, option| spec.arg(*option));
    let single = SINGLE.iter().fold(spec("postgres").arg("--single").arg("-D").arg("."), |spec, setting| spec.arg("-c").arg(*setting));
    // Single-user mode takes one command a line.
    for (spec, input) in [(initdb, None), (single.arg("postgres"), Some(ROLES.join("\n") + "\n"))] {
        let command = spec.command_line();
        let ran = agent.run(&spec, input.as_deref(), LIMIT).await;
        let ran = ran.map_err(|error| Failure::new(format!("`{command}` could not be run: {error}"), data))?;
        if !ran.status.success() {
            return Err(Failure::new(format!("`{command}` ended with {}: {}{}", ran.status, ran.output(), ran.errors()), data));
        }
    }
    Ok(())
}
