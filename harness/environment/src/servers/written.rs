//! Which of a server's files differ from those that it has.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::configure::ConfigFile;
use super::machine::Machine;
use crate::error::MachineError;

/// What was written last, so that only differences are written.
#[derive(Debug, Default)]
pub(crate) struct Written(BTreeMap<PathBuf, ConfigFile>);

impl Written {
    /// Brings a machine to `files`: writes what differs from the last time and removes what is no longer there.
    pub(crate) async fn bring_to(&mut self, files: Vec<ConfigFile>, machine: &dyn Machine) -> Result<(), MachineError> {
        let next: BTreeMap<PathBuf, ConfigFile> = files.into_iter().map(|file| (file.path.clone(), file)).collect();
        let gone: Vec<PathBuf> = self.0.keys().filter(|path| !next.contains_key(*path)).cloned().collect();
        if !gone.is_empty() {
            machine.remove(&gone).await?;
            self.0.retain(|path, _| next.contains_key(path));
        }
        let different: Vec<ConfigFile> = next.values().filter(|file| self.0.get(&file.path) != Some(*file)).cloned().collect();
        if different.is_empty() {
            return Ok(());
        }
        // Forgotten first: after a failure nobody knows what the files hold.
        self.0.retain(|path, _| different.iter().all(|file| file.path != *path));
        machine.write(&different).await?;
        self.0 = next;
        Ok(())
    }
}
