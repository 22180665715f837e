//! What stays of a server that failed as a whole: the run directory goes at the run's end, and its logs with it.

use std::path::Path;

use crate::environment::EnvironmentError;
use crate::model::server::ServerKey;

/// Copies the error's log to the evidence, and names it there. Where that can't be done the error is as it was: it quotes the log's last
/// lines anyway.
pub(super) fn log(evidence: Option<&Path>, key: ServerKey, error: EnvironmentError) -> EnvironmentError {
    let kept = evidence.zip(error.log()).and_then(|(evidence, log)| {
        let directory = evidence.join(key.to_string());
        std::fs::create_dir_all(&directory).ok()?;
        let kept = directory.join(log.file_name()?);
        std::fs::copy(log, &kept).ok()?;
        Some(kept)
    });
    match kept {
        Some(kept) => error.with_log_at(kept),
        None => error,
    }
}
