//! What a server gives whoever looks into a failure: the configuration that it has read, and what it says came of it. No passwords.

use std::path::Path;

use super::machine::Machine;
use crate::EvidenceFile;
use model::server::Service;
use os::redact::without_passwords;

/// The files of a server's data directory that configure it; not every server has every one.
pub(super) fn configuration(service: Service) -> &'static [&'static str] {
    match service {
        Service::Postgres => &["harness.conf", "postgresql.conf", "override.conf", "pg_hba.conf", "pg_ident.conf"],
        // Its password is in another file.
        Service::Redis => &["redis.conf"],
    }
}

/// A text as a file of the evidence.
pub(super) fn of_text(name: &str, text: &str) -> EvidenceFile {
    EvidenceFile { name: name.to_owned(), contents: without_passwords(text).into_bytes() }
}

/// A configuration file as this machine has it; `None` where there is none.
pub(super) fn of_file(machine: &dyn Machine, path: &Path) -> Option<EvidenceFile> {
    let here = machine.here(path);
    let name = here.file_name()?.to_string_lossy().into_owned();
    match std::fs::read(&here) {
        Ok(contents) => Some(of_text(&name, &String::from_utf8_lossy(&contents))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(of_text(&format!("{name}.unread.txt"), &format!("{} could not be read: {error}\n", here.display()))),
    }
}

/// In place of what a server could not be asked for.
pub(super) fn not_asked(what: &str, error: impl std::fmt::Display) -> EvidenceFile {
    of_text("not-asked.txt", &format!("the server could not be asked for {what}: {error}\n"))
}
