//! Data directories of PostgreSQL in containers: made once for every image by its own `initdb`, kept as an archive, and unpacked afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::signal::Signal;
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;

use crate::error::{DataError, Failure, MachineError};
use crate::servers::data_directory::{LIMIT, OPTIONS, ROLES, SINGLE};
use agent::{Agent, DirectorySpec, Owner};
use os::child::ChildSpec;
use os::toolchain::PostgresBuild;
use os::tree;
use os::user::RunAs;

/// The prepared data directories, an archive for each image, version and user.
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
        let owner = user.map(Owner::from);
        let archive = self.directory.join(name(image, build, user));
        let turn = Arc::clone(self.by_image.lock().await.entry(image.to_owned()).or_default());
        let turn = turn.lock().await;
        if !archive.is_file() {
            let directory = DirectorySpec { path: data.to_path_buf(), mode: 0o700, owner };
            agent.make_directories(&[directory]).await.map_err(|error| Failure::new(DataError::from(MachineError::from(error)), data))?;
            initdb(agent, build, user, data).await?;
            self.keep(agent, data, &archive).await?;
            return Ok(());
        }
        drop(turn);
        let unpacked = agent.unpack(&archive, data, owner).await;
        unpacked.map_err(|error| Failure::new(DataError::Unpack { archive, source: Arc::new(error) }, data))
    }

    async fn keep(&self, agent: &Agent, data: &Path, archive: &Path) -> Result<(), Failure> {
        let unusable =
            |error: MachineError| Failure::new(DataError::Pack { archive: archive.to_path_buf(), source: Box::new(error) }, archive);
        tree::make_private_directories(&self.directory).map_err(|error| unusable(MachineError::file("make", &self.directory)(error)))?;
        // Others may make the same at this time: whoever comes last puts an equal one in its place.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let partial = archive.with_extension(format!("{}-{}.partial", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let packed = agent.pack(data, &partial).await.map_err(MachineError::from);
        let kept = packed.and_then(|()| std::fs::rename(&partial, archive).map_err(MachineError::file("give its final name to", &partial)));
        if kept.is_err() {
            // It may not be there at all.
            let _ = std::fs::remove_file(&partial);
        }
        kept.map_err(unusable)
    }
}

/// What the archive depends on, as a file name.
fn name(image: &str, build: &PostgresBuild, user: Option<&RunAs>) -> String {
    let made_from = format!("{image}|{}|{:?}|{OPTIONS:?}|{ROLES:?}|{SINGLE:?}", build.version, user.map(|user| user.uid));
    let digest = Sha256::digest(made_from.as_bytes());
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
        let ran = ran.map_err(|error| Failure::new(DataError::Run { command: command.clone(), source: Arc::new(error) }, data))?;
        if !ran.status.success() {
            let said = format!("{}{}", ran.output(), ran.errors());
            return Err(Failure::new(DataError::Failed { command, status: ran.status, said }, data));
        }
    }
    Ok(())
}
