//! What stays of a case that failed, and of a server that failed as a whole: the run directory goes at the run's end, and its logs with it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use super::not_run::CaseError;
use environment::{EnvironmentError, EvidenceFile};
use os::evidence::{EvidenceError, EvidenceStore, remove_finished};
use os::redact::Redactor;

/// How much of a log's end is kept of each case, in bytes: all cases of a server write to one log, and a case's own lines are in its record.
const LOG: u64 = 1024 * 1024;

/// Where evidence goes.
#[derive(Debug, Clone)]
pub struct EvidenceOptions {
    /// Where the runs' directories are.
    pub directory: PathBuf,
    /// Leave what earlier runs have written.
    pub keep_earlier: bool,
}

/// The evidence of a run. Nothing in it holds a secret of the run.
#[derive(Debug)]
pub struct Evidence {
    store: EvidenceStore,
    redactor: Redactor,
}

/// What became of a case's evidence.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Where it is, where there is any.
    pub(super) directory: Option<String>,
    /// Why all of it, or a part, is missing.
    pub(super) error: Option<String>,
}

impl Evidence {
    /// That of a run which begins now, and why what earlier runs have left is still there, if it should not be.
    #[must_use]
    pub fn begin(options: &EvidenceOptions, redactor: Redactor) -> (Self, Option<EvidenceError>) {
        let still_there = if options.keep_earlier { None } else { remove_finished(&options.directory).err() };
        let name = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        (Self { store: EvidenceStore::new(&options.directory, &name), redactor }, still_there)
    }

    /// Keeps a case's files and the ends of its logs, as many of them as can be written.
    pub(super) fn keep(&self, case_id: &str, files: Vec<EvidenceFile>, logs: &[(String, PathBuf)]) -> Kept {
        let directory = match self.store.make(&directory(case_id)) {
            Ok(directory) => directory,
            Err(error) => return Kept { directory: None, error: Some(unkept(&error)) },
        };
        let written = files.into_iter().map(|file| self.write(&directory, &file.name, &file.contents));
        let copied = logs.iter().map(|(name, log)| match end_of(log) {
            Ok(end) => self.write(&directory, name, &end),
            // It lies behind the run's directory, which another may have filled.
            Err(source) => Err(EvidenceError { action: "read", path: log.clone(), source }),
        });
        let error = written.chain(copied).filter_map(Result::err).map(|error| unkept(&error)).reduce(|first, _| first);
        Kept { directory: Some(directory.display().to_string()), error }
    }

    fn write(&self, directory: &Path, name: &str, contents: &[u8]) -> Result<(), EvidenceError> {
        let text = String::from_utf8_lossy(contents);
        self.store.write(directory, name, self.redactor.text(&text).as_bytes())
    }

    /// Keeps the end of a log in the directory `name`; its place there.
    fn keep_log(&self, name: &str, log: &Path) -> Result<PathBuf, EvidenceError> {
        let read = |source| EvidenceError { action: "read", path: log.to_path_buf(), source };
        let end = end_of(log).map_err(read)?;
        let directory = self.store.shared(&directory(name))?;
        let file = log.file_name().unwrap_or_default();
        self.write(&directory, &file.to_string_lossy(), &end)?;
        Ok(directory.join(file))
    }
}

/// What the record says, with the way out.
fn unkept(error: &EvidenceError) -> String {
    format!("{error}; `--evidence DIR` names another directory")
}

/// The name of a case's directory in the evidence.
pub(super) fn directory(case_id: &str) -> String {
    case_id.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '_' }).collect()
}

/// The last [`LOG`] bytes of a log, from the beginning of a line on. What the tailer has given back reads as zeros, and is left out.
fn end_of(log: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(log)?;
    let length = file.seek(SeekFrom::End(0))?;
    let from = length.saturating_sub(LOG);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(LOG).read_to_end(&mut end)?;
    let cut = if from == 0 { 0 } else { end.iter().position(|byte| *byte == b'\n').map_or(end.len(), |line_end| line_end + 1) };
    let zeros = end[cut..].iter().take_while(|byte| **byte == 0).count();
    Ok(end.split_off(cut + zeros))
}

/// An error of the environment as a case's: its log is copied to the directory `name` of the evidence and named there, a server's where cases
/// share it, else that of the case. Where that can't be done the error says so; it quotes the log's last lines anyway.
pub(super) fn log(evidence: Option<&Evidence>, name: &str, error: EnvironmentError) -> CaseError {
    let failed = error.skip().is_none();
    let Some((evidence, log)) = evidence.filter(|_| failed).zip(error.log()) else { return CaseError::Environment(error) };
    match evidence.keep_log(name, log) {
        Ok(kept) => CaseError::Environment(error.with_log_at(kept)),
        Err(unkept) => CaseError::Unkept { source: Box::new(error), unkept },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_log_the_last_lines_are_kept_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("log");
        std::fs::write(&log, "short\n").expect("writes");
        assert_eq!(end_of(&log).expect("reads"), b"short\n");
        let long: String = (0..200_000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&log, &long).expect("writes");
        let end = String::from_utf8(end_of(&log).expect("reads")).expect("text");
        assert!(
            end.starts_with("line ") && long.ends_with(&end) && end.len() as u64 <= LOG && end.len() as u64 > LOG - 20,
            "{}",
            end.len()
        );
        std::fs::write(&log, "\0\0\0line\n").expect("writes");
        assert_eq!(end_of(&log).expect("reads"), b"line\n");
    }
}
