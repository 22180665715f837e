//! Where a report goes: `FORMAT=PATH`, as `--report` takes it.

use std::fmt;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

/// What the file of a report holds, by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// All that is known of the run, in the fields of `report.schema.json`.
    Json,
    /// `JUnit` XML, which CI systems read.
    Junit,
    /// For a step summary or a comment.
    Markdown,
}

impl Format {
    /// In the order in which messages list them.
    pub const ALL: [Self; 3] = [Self::Json, Self::Junit, Self::Markdown];

    /// The name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Junit => "junit",
            Self::Markdown => "markdown",
        }
    }
}

/// What stands behind the `=` of `--report FORMAT=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output, written `-`.
    Stdout,
    /// A file; its folders are made if they are missing.
    File(PathBuf),
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One `--report FORMAT=PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportTarget {
    /// What the destination gets.
    pub format: Format,
    /// No two targets may have the same one.
    pub destination: Destination,
}

/// Why a target can't be used.
#[derive(Debug, Error)]
pub enum ReportError {
    /// No `=`, or nothing after it.
    #[error("`{given}` is not FORMAT=PATH; write for example `json=report.json`, with a format of {formats} and `-` for standard output", formats = formats())]
    Shape {
        /// The whole option, such as `report.json`.
        given: String,
    },
    /// No format has the name before the `=`.
    #[error("unknown report format `{given}`; the formats are {formats}", formats = formats())]
    Format {
        /// The name, such as `html`.
        given: String,
    },
    /// Two targets with one destination.
    #[error("two reports go to {destination}; give each a place of its own")]
    Twice {
        /// The path, or `standard output`.
        destination: String,
    },
    /// The destination can't be written.
    #[error("the {format} report could not be written to {destination}: {source}{way_out}", way_out = way_out(format, source))]
    Write {
        /// The name of [`Format::name`].
        format: &'static str,
        /// The path, or `standard output`.
        destination: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What else can be done where the place is the obstacle.
fn way_out(format: &str, source: &io::Error) -> String {
    use io::ErrorKind as K;
    match source.kind() {
        K::PermissionDenied | K::ReadOnlyFilesystem | K::StorageFull | K::QuotaExceeded => {
            format!("; `--report {format}=PATH` names another place")
        }
        _ => String::new(),
    }
}

fn formats() -> String {
    Format::ALL.map(|format| format!("`{}`", format.name())).join(", ")
}

impl FromStr for ReportTarget {
    type Err = ReportError;

    fn from_str(given: &str) -> Result<Self, ReportError> {
        let shape = || ReportError::Shape { given: given.to_owned() };
        let (format, path) = given.split_once('=').ok_or_else(shape)?;
        let format =
            Format::ALL.into_iter().find(|known| known.name() == format).ok_or_else(|| ReportError::Format { given: format.to_owned() })?;
        let destination = match path {
            "" => return Err(shape()),
            "-" => Destination::Stdout,
            path => Destination::File(PathBuf::from(path)),
        };
        Ok(Self { format, destination })
    }
}

impl ReportTarget {
    /// Makes sure before a run that its report can be written after it: makes the folders, and a file beside the report that is removed
    /// again.
    ///
    /// # Errors
    ///
    /// Where the destination can't be written, or another target has it too.
    pub fn check_all(targets: &[Self]) -> Result<(), ReportError> {
        for (index, target) in targets.iter().enumerate() {
            if targets[..index].iter().any(|earlier| earlier.destination == target.destination) {
                return Err(ReportError::Twice { destination: target.destination.to_string() });
            }
            let checked = match &target.destination {
                Destination::Stdout => Ok(()),
                Destination::File(path) => check(path),
            };
            checked.map_err(|source| target.failed(source))?;
        }
        Ok(())
    }

    /// Writes the report through `content`. A file appears whole or not at all, with the mode that the umask gives.
    ///
    /// # Errors
    ///
    /// Where the destination can't be written or the content can't be made.
    pub fn write(&self, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), ReportError> {
        let written = match &self.destination {
            Destination::Stdout => {
                let mut stdout = BufWriter::new(io::stdout().lock());
                content(&mut stdout).and_then(|()| stdout.flush())
            }
            Destination::File(path) => write_file(path, content),
        };
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> ReportError {
        ReportError::Write { format: self.format.name(), destination: self.destination.to_string(), source }
    }
}

/// The file itself where the path is a link: replacing the link would leave its target stale.
fn resolve(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf())
}

/// Whether a rename may replace it: not a device or a pipe such as `/dev/null`, which is written in place.
fn replaceable(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(io::Error::from(io::ErrorKind::IsADirectory)),
        Ok(found) => Ok(found.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn temporary_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    tempfile::Builder::new().prefix(".report-").permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

fn check(path: &Path) -> io::Result<()> {
    let path = resolve(path);
    if replaceable(&path)? { temporary_beside(&path)?.close() } else { Ok(()) }
}

fn write_file(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = resolve(path);
    if !replaceable(&path)? {
        let mut device = BufWriter::new(fs::OpenOptions::new().write(true).open(&path)?);
        content(&mut device)?;
        return device.flush();
    }
    let file = temporary_beside(&path)?;
    let mut writer = BufWriter::new(file);
    content(&mut writer)?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_format_and_path() {
        let target: ReportTarget = "json=out/report=1.json".parse().expect("parses");
        assert_eq!(target, ReportTarget { format: Format::Json, destination: Destination::File("out/report=1.json".into()) });
        let target: ReportTarget = "markdown=-".parse().expect("parses");
        assert_eq!(target, ReportTarget { format: Format::Markdown, destination: Destination::Stdout });
    }

    #[test]
    fn a_wrong_target_says_what_would_be_right() {
        let refused = |text: &str| text.parse::<ReportTarget>().expect_err("refused").to_string();
        assert_eq!(refused("html=x"), "unknown report format `html`; the formats are `json`, `junit`, `markdown`");
        for text in ["report.json", "json="] {
            let error = refused(text);
            assert!(error.starts_with(&format!("`{text}` is not FORMAT=PATH; write for example `json=report.json`")), "{error}");
        }
    }

    fn file_target(path: PathBuf) -> ReportTarget {
        ReportTarget { format: Format::Json, destination: Destination::File(path) }
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let path = folder.path().join("new/report.json");
        let target = file_target(path.clone());
        ReportTarget::check_all(std::slice::from_ref(&target)).expect("can be written");
        assert!(!path.exists(), "the check leaves no file");
        target.write(|out| out.write_all(b"first")).expect("writes");
        let error = target
            .write(|out| {
                out.write_all(b"half")?;
                Err(io::Error::other("the spool broke"))
            })
            .expect_err("fails")
            .to_string();
        assert_eq!(error, format!("the json report could not be written to {}: the spool broke", path.display()));
        assert_eq!(fs::read_to_string(&path).expect("reads"), "first");
        let names: Vec<_> = fs::read_dir(path.parent().expect("has one")).expect("lists").collect();
        assert_eq!(names.len(), 1, "no temporary file stays: {names:?}");
    }

    #[test]
    fn a_link_stays_a_link_and_its_file_is_replaced() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let file = folder.path().join("file.json");
        let link = folder.path().join("link.json");
        fs::write(&file, "old").expect("writes");
        std::os::unix::fs::symlink(&file, &link).expect("links");
        file_target(link.clone()).write(|out| out.write_all(b"new")).expect("writes");
        assert_eq!(fs::read_to_string(&file).expect("reads"), "new");
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
    }

    #[test]
    fn a_device_is_written_in_place() {
        file_target("/dev/null".into()).write(|out| out.write_all(b"gone")).expect("writes");
        assert!(!fs::metadata("/dev/null").expect("is there").is_file());
    }

    #[test]
    fn a_place_that_can_not_be_written_is_found_before_the_run_and_named() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let file = folder.path().join("file");
        fs::write(&file, "").expect("writes");
        for path in [file.join("report.json"), folder.path().to_path_buf()] {
            let error = ReportTarget::check_all(&[file_target(path.clone())]).expect_err("refused").to_string();
            assert!(error.starts_with(&format!("the json report could not be written to {}: ", path.display())), "{error}");
        }
        let twice = [file_target(folder.path().join("a")), file_target(folder.path().join("a"))];
        assert!(matches!(ReportTarget::check_all(&twice), Err(ReportError::Twice { .. })));
    }
}
