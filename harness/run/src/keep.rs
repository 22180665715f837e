//! What stays of a server that failed as a whole: the run directory goes at the run's end, and its logs with it.

use std::path::{Path, PathBuf};

use environment::EnvironmentError;
use os::tree;

/// The name of a case's directory in the evidence.
pub(super) fn directory(case_id: &str) -> String {
    case_id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '_' }).collect()
}

/// Makes the directory `name` of the evidence, which nobody else may look into: logs and rules are for whoever ran the harness.
pub(super) fn make(evidence: &Path, name: &str) -> std::io::Result<PathBuf> {
    evidence.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    let directory = evidence.join(name);
    tree::make_private_directories(&directory)?;
    Ok(directory)
}

/// Copies the error's log to the directory `name` of the evidence, and names it there: a server's where cases share it, else that of the
/// case. Where that can't be done the error is as it was: it quotes the log's last lines anyway.
pub(super) fn log(evidence: Option<&Path>, name: &str, error: EnvironmentError) -> EnvironmentError {
    let kept = evidence.zip(error.log()).and_then(|(evidence, log)| {
        let directory = make(evidence, name).ok()?;
        let kept = directory.join(log.file_name()?);
        tree::copy_private(log, &kept).ok()?;
        Some(kept)
    });
    match kept {
        Some(kept) => error.with_log_at(kept),
        None => error,
    }
}
