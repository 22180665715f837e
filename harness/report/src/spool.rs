//! Cases on disk: a run's records go to an anonymous temporary file as lines of JSON, and reports are assembled from there.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;

use indexmap::IndexSet;

use model::outcome::OutcomeKind;
use model::report::CaseRecord;
use os::redact::Redactor;

/// Takes cases as they end, without their secrets. Memory holds an id and a position for each.
#[derive(Debug)]
pub struct Spool {
    file: BufWriter<File>,
    end: u64,
    entries: Vec<Entry>,
    scenarios: IndexSet<String>,
    redactor: Redactor,
    /// Why the file lacks cases.
    failed: Option<String>,
}

/// What is known of a spooled case without reading it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// As in the report: the scenario's id, and behind `:` the values of its axes.
    pub id: Box<str>,
    /// The outcome without its texts.
    pub kind: OutcomeKind,
    /// Wall time in milliseconds.
    pub duration_ms: f64,
    scenario: usize,
    offset: u64,
    length: usize,
}

impl Spool {
    /// An empty spool. The file has no name: it is gone when the process is, however that ends.
    ///
    /// # Errors
    ///
    /// Where no temporary file can be made.
    pub fn create(redactor: Redactor) -> io::Result<Self> {
        let file = tempfile::tempfile().map_err(|source| {
            let place = std::env::temp_dir();
            io::Error::new(source.kind(), format!("no temporary file for the cases could be made in {}: {source}", place.display()))
        })?;
        Ok(Self { file: BufWriter::new(file), end: 0, entries: Vec::new(), scenarios: IndexSet::new(), redactor, failed: None })
    }

    /// Takes a case.
    ///
    /// # Errors
    ///
    /// Where the temporary file can't be written, such as on a full disk: once. Later cases are not taken.
    pub fn push(&mut self, case: &CaseRecord) -> io::Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        let line = self.redactor.json_line(case)?;
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.write_all(b"\n"));
        written.map_err(|source| self.fail(&source))?;
        let scenario = self.scenarios.get_index_of(&case.scenario).unwrap_or_else(|| self.scenarios.insert_full(case.scenario.clone()).0);
        self.entries.push(Entry {
            id: case.id.as_str().into(),
            kind: case.outcome.kind(),
            duration_ms: case.duration_ms,
            scenario,
            offset: self.end,
            length: line.len(),
        });
        self.end += line.len() as u64 + 1;
        Ok(())
    }

    fn fail(&mut self, source: &io::Error) -> io::Error {
        let place = std::env::temp_dir();
        let text = format!("the cases could not be kept in {} for the reports: {source}; TMPDIR names another place", place.display());
        self.failed = Some(text.clone());
        io::Error::new(source.kind(), text)
    }

    /// Everything spooled so far, by id.
    ///
    /// # Errors
    ///
    /// Where the rest can't be written to the temporary file.
    pub fn cases(&mut self) -> io::Result<SpooledCases<'_>> {
        if let Some(failed) = &self.failed {
            return Err(io::Error::other(format!("no report is written, since it would lack cases: {failed}")));
        }
        self.file.flush().map_err(|source| self.fail(&source))?;
        self.entries.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(SpooledCases { file: self.file.get_ref(), entries: &self.entries, scenarios: &self.scenarios })
    }
}

/// Spooled cases in the order of their ids; each is read when it is asked for.
#[derive(Debug, Clone, Copy)]
pub struct SpooledCases<'a> {
    file: &'a File,
    entries: &'a [Entry],
    scenarios: &'a IndexSet<String>,
}

impl<'a> SpooledCases<'a> {
    /// What is known without reading.
    #[must_use]
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// Scenarios by name, each with its cases by id.
    #[must_use]
    pub fn by_scenario(&self) -> Vec<(&'a str, Vec<&'a Entry>)> {
        let mut groups: Vec<(&str, Vec<&Entry>)> = self.scenarios.iter().map(|name| (name.as_str(), Vec::new())).collect();
        for entry in self.entries {
            groups[entry.scenario].1.push(entry);
        }
        groups.sort_by_key(|(name, _)| *name);
        groups
    }

    /// Reads one case.
    ///
    /// # Errors
    ///
    /// Where the temporary file can't be read.
    pub fn read(&self, entry: &Entry) -> io::Result<CaseRecord> {
        let mut line = vec![0; entry.length];
        self.file.read_exact_at(&mut line, entry.offset)?;
        serde_json::from_slice(&line).map_err(|error| io::Error::other(format!("case {} can't be read back: {error}", entry.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use model::outcome::{ErrorKind, Outcome};

    #[test]
    fn cases_come_back_whole_and_by_id_in_whatever_order_they_ended() {
        let mut cases = fixture::cases();
        cases.reverse();
        let mut spool = Spool::create(Redactor::default()).expect("makes a file");
        for case in &cases {
            spool.push(case).expect("spools");
        }
        let spooled = spool.cases().expect("flushes");
        let read: Vec<CaseRecord> = spooled.entries().iter().map(|entry| spooled.read(entry).expect("reads")).collect();
        cases.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(read, cases);
        let scenarios: Vec<(&str, usize)> = spooled.by_scenario().iter().map(|(name, entries)| (*name, entries.len())).collect();
        assert_eq!(scenarios, [("openssl/inspect", 1), ("postgres/sslmode", 7), ("redis/tls", 1), ("renewal/trust-first", 1)]);
    }

    #[test]
    fn more_can_be_spooled_after_reading() {
        let cases = fixture::cases();
        let mut spool = Spool::create(Redactor::default()).expect("makes a file");
        for (index, case) in cases.iter().enumerate() {
            spool.push(case).expect("spools");
            let spooled = spool.cases().expect("flushes");
            let entry = spooled.entries().iter().find(|entry| *entry.id == *case.id).expect("is there");
            assert_eq!(spooled.read(entry).expect("reads"), *case);
            assert_eq!(spooled.entries().len(), index + 1);
        }
    }

    #[test]
    fn what_is_spooled_holds_no_secret() {
        let mut case = fixture::cases().remove(0);
        let errored = |text: &str| Outcome::Errored { kind: ErrorKind::Client, text: text.to_owned() };
        case.outcome = errored("the server said: password hunter2 is wrong");
        let mut spool = Spool::create(Redactor::new(["hunter2"])).expect("makes a file");
        spool.push(&case).expect("spools");
        let spooled = spool.cases().expect("flushes");
        let read = spooled.read(&spooled.entries()[0]).expect("reads");
        assert_eq!(read.outcome, errored("the server said: password *** is wrong"));
    }
}
