//! The reporter that writes files: spools cases while the run goes on, assembles every target when it is finished.

use std::io;

use super::spool::Spool;
use super::tally::Tally;
use super::target::{Destination, Format, ReportError, ReportTarget};
use super::{json, junit, markdown};
use model::report::Summary;
use os::redact::Redactor;
use run::event::{Event, Reporter};

/// Writes its targets when the run is finished.
#[derive(Debug)]
pub struct FileReports {
    targets: Vec<ReportTarget>,
    spool: Spool,
    tally: Tally,
    redactor: Redactor,
}

impl FileReports {
    /// A reporter of these targets; no string that `redactor` knows gets into them. Makes sure that each can be written.
    ///
    /// # Errors
    ///
    /// Where a target can't be written or is given twice, or no temporary file can be made.
    pub fn new(targets: Vec<ReportTarget>, redactor: Redactor) -> io::Result<Self> {
        ReportTarget::check_all(&targets).map_err(to_io)?;
        Ok(Self { targets, spool: Spool::create(redactor.clone())?, tally: Tally::default(), redactor })
    }

    /// Writes every target, also after one has failed.
    fn write(&mut self, summary: &Summary) -> io::Result<()> {
        let summary = self.redactor.record(summary)?;
        let cases = self.spool.cases()?;
        let tally = &self.tally;
        let mut failed = Ok(());
        for target in &self.targets {
            let written = target.write(|out| match target.format {
                Format::Json => json::write(out, &summary, cases),
                Format::Junit => junit::write(out, &summary, cases),
                Format::Markdown => markdown::write(out, &summary, cases, tally),
            });
            let unread = |error: &ReportError| target.destination == Destination::Stdout && is_broken_pipe(error);
            match written {
                // Whoever read it has seen enough, as `head` has.
                Err(error) if unread(&error) => {}
                written => failed = failed.and(written.map_err(to_io)),
            }
        }
        failed
    }
}

fn is_broken_pipe(error: &ReportError) -> bool {
    matches!(error, ReportError::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

/// Keeps the kind of what the system said.
fn to_io(error: ReportError) -> io::Error {
    let kind = match &error {
        ReportError::Write { source, .. } => source.kind(),
        ReportError::Shape { .. } | ReportError::Format { .. } | ReportError::Twice { .. } => io::ErrorKind::InvalidInput,
    };
    io::Error::new(kind, error)
}

impl Reporter for FileReports {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        match event {
            Event::CaseFinished(case) if !self.targets.is_empty() => {
                self.tally.add(case);
                self.spool.push(case)
            }
            Event::RunFinished(summary) if !self.targets.is_empty() => self.write(summary),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use model::outcome::{ErrorKind, Outcome};

    #[test]
    fn every_target_is_written_without_secrets() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let path = |name: &str| folder.path().join(name);
        let targets = ["json", "junit", "markdown"]
            .map(|format| format!("{format}={}", path(format).display()).parse::<ReportTarget>().expect("parses"));
        let mut reports = FileReports::new(targets.to_vec(), Redactor::new(["s3cret-word"])).expect("can be written");
        let mut summary = fixture::summary();
        summary.problems.push("control of s3cret-word failed".to_owned());
        let mut case = fixture::cases().remove(0);
        case.outcome = Outcome::Errored { kind: ErrorKind::Client, text: "password s3cret-word refused".to_owned() };
        case.evidence = Some("-----BEGIN PRIVATE KEY-----\nMIGHAgEA\n-----END PRIVATE KEY-----".to_owned());
        for event in [Event::CaseFinished(Box::new(case)), Event::RunFinished(Box::new(summary))] {
            reports.event(&event).expect("writes");
        }
        for format in ["json", "junit", "markdown"] {
            let text = std::fs::read_to_string(path(format)).expect("is there");
            assert!(!text.contains("s3cret-word") && !text.contains("MIGHAgEA"), "{text}");
            assert!(text.contains("password *** refused"), "{text}");
        }
    }

    #[test]
    fn a_target_that_fails_does_not_keep_the_others_from_being_written() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let lost = folder.path().join("lost");
        let kept = folder.path().join("kept.json");
        let targets = [format!("junit={}/x/report.xml", lost.display()), format!("json={}", kept.display())]
            .map(|target| target.parse::<ReportTarget>().expect("parses"));
        let mut reports = FileReports::new(targets.to_vec(), Redactor::default()).expect("can be written");
        std::fs::remove_dir_all(&lost).expect("was made by the check");
        std::fs::write(&lost, "a file now").expect("writes");
        let error = reports.event(&Event::RunFinished(Box::new(fixture::summary()))).expect_err("one fails").to_string();
        assert!(error.starts_with(&format!("the junit report could not be written to {}", lost.display())), "{error}");
        assert!(kept.exists());
    }
}
