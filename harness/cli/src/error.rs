//! What ends the program with an error, and with which exit code.

use std::io;
use std::path::PathBuf;

use super::exit::Exit;
use super::own_programs::ProgramError;
use deployment::alias::AliasError;
use deployment::networks::NameNetworksError;
use driver::exec::ConfigError;
use expand::select::SelectError;
use latency::LatencyError;
use load::images::ImageError;
use model::causes::with_causes;
use os::access::Closed;
use os::rundir::RunDirError;
use report::target::ReportError;
use session::SessionError;

/// Something that ends the program before, beside or after a run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Neither the working directory nor the executable is inside of a repository, and no other scenarios are given.
    #[error(
        "found no scenarios/claims.yaml here, above, or above the executable: run from the repository, or give --scenarios with \
         --only-given-scenarios"
    )]
    NoScenarios,
    /// The scenarios are there, or could be, and this user may not read them.
    #[error(
        "found no scenarios/claims.yaml that can be read: {0}; let its owner run `chmod -R go+rX` on the checkout, use one of your own, or give \
         --scenarios with --only-given-scenarios"
    )]
    ClosedScenarios(Closed),
    /// Everything that is wrong in files of scenarios, images or manifests, a line each.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Files(Vec<load::LoadError>),
    /// The selected cases are none.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// An option or a variable names images that there aren't.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// A program of `--exec-driver` can't be executed.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A report could not be written to the place that `--report` gives. Found before the run.
    #[error(transparent)]
    ReportTarget(#[from] ReportError),
    /// The file of `--nautobot-config` is no Python, or could not be tried.
    #[error(transparent)]
    NautobotConfig(#[from] ConfigError),
    /// `--alias` names no object, or one twice.
    #[error(transparent)]
    Alias(#[from] AliasError),
    /// `--network` gives a range to a network that can't have it.
    #[error(transparent)]
    Network(#[from] NameNetworksError),
    /// A file that an option names is not there, or not for this user.
    #[error("{}: can't be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// What `claims --report` is given holds something else than JSON.
    #[error("{}: is no JSON report: {source}; `run --report json=FILE` writes one", path.display())]
    NotJson { path: PathBuf, source: serde_json::Error },
    /// What `claims` reads is JSON, but not of the fields that this version writes.
    #[error("{}: is no report of this version: {source}; `run --report json=FILE` writes one", path.display())]
    OtherReport { path: PathBuf, source: serde_json::Error },
    /// `doctor` found nothing that any case of PostgreSQL could run on.
    #[error("there is no PostgreSQL server at all: `make setup` brings four versions")]
    NoPostgres,
    /// Servers or clients could not be prepared.
    #[error(transparent)]
    Session(Box<SessionError>),
    /// The same, since somebody interrupted the preparation.
    #[error(transparent)]
    Interrupted(Box<SessionError>),
    /// There is no directory for what `doctor` makes.
    #[error(transparent)]
    RunDirectory(#[from] RunDirError),
    /// No thread, or no file descriptors for what waits.
    #[error("could not start the runtime: {0}")]
    Runtime(#[source] io::Error),
    /// The program executes itself for clients and for the watcher of the run's directory.
    #[error("could not find the harness's own binary: {0}")]
    OwnBinary(#[source] io::Error),
    /// Latencies could not be counted.
    #[error(transparent)]
    Latency(#[from] LatencyError),
    /// The reports' temporary file could not be made.
    #[error("could not prepare the reports: {0}")]
    Reports(#[source] io::Error),
    /// The thread of the reporters panicked; its words are on standard error.
    #[error("the reporters failed: this is a defect of the harness")]
    ReportersPanicked,
    /// Deviations that have ended are told by the date.
    #[error("the clock gives no date: {0}")]
    Clock(#[source] jiff::Error),
    /// The run came to its end, but these reports could not be written, or these processes and files are left behind; a line each. Its
    /// verdict stays.
    #[error("{}", errors.join("\n"))]
    AfterRun { errors: Vec<String>, exit: Exit },
    /// Inside of a container: the agent could not serve.
    #[error(transparent)]
    Agent(#[from] agent::StartError),
    /// Standard output took no more.
    #[error("could not write: {0}")]
    Write(#[from] io::Error),
}

impl From<Vec<load::LoadError>> for CliError {
    fn from(errors: Vec<load::LoadError>) -> Self {
        Self::Files(errors)
    }
}

impl From<load::LoadError> for CliError {
    fn from(error: load::LoadError) -> Self {
        Self::Files(vec![error])
    }
}

impl CliError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NoScenarios
            | Self::ClosedScenarios(_)
            | Self::Files(_)
            | Self::Images(_)
            | Self::Program(_)
            | Self::ReportTarget(_)
            | Self::NautobotConfig(_)
            | Self::Alias(_)
            | Self::Network(_)
            | Self::Unreadable { .. }
            | Self::NotJson { .. }
            | Self::OtherReport { .. }
            | Self::Select(SelectError::Pattern { .. }) => Exit::Usage,
            Self::Select(
                SelectError::Empty | SelectError::Unmatched(_) | SelectError::PartlyUnmatched(_) | SelectError::Together { .. },
            ) => Exit::NothingRan,
            Self::Interrupted(_) => Exit::Interrupted,
            Self::AfterRun { exit, .. } => *exit,
            Self::NoPostgres
            | Self::Session(_)
            | Self::RunDirectory(_)
            | Self::Runtime(_)
            | Self::OwnBinary(_)
            | Self::Latency(_)
            | Self::Reports(_)
            | Self::ReportersPanicked
            | Self::Clock(_)
            | Self::Agent(_)
            | Self::Write(_) => Exit::Environment,
        }
    }

    /// What standard error says: each line behind `error: `, with the causes that the text doesn't hold itself.
    pub(crate) fn text(&self) -> String {
        with_causes(self).lines().map(|line| format!("error: {line}\n")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those that no test of the binary can bring about; the others are in `tests/command_line.rs`.
    #[test]
    fn errors_of_the_environment_say_what_was_tried_and_end_with_their_exit_code() {
        let system = || io::Error::from_raw_os_error(24);
        let errors = [
            CliError::NoScenarios,
            CliError::NoPostgres,
            CliError::Session(Box::new(SessionError::NoName)),
            CliError::Interrupted(Box::new(SessionError::Interrupted)),
            CliError::Runtime(system()),
            CliError::OwnBinary(system()),
            CliError::Reports(system()),
            CliError::ReportersPanicked,
            CliError::AfterRun {
                errors: vec!["the json report could not be written to x: no space".to_owned(), "left behind: 2 processes".to_owned()],
                exit: Exit::NotConformant,
            },
            CliError::Write(io::Error::from_raw_os_error(28)),
        ];
        let texts = errors.map(|error| format!("exit code {}\n{}", error.exit().code(), error.text()));
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn a_cause_is_told_once() {
        let pattern = SelectError::Pattern { pattern: "{".to_owned(), source: globset::Glob::new("{").expect_err("no glob") };
        let text = CliError::from(pattern).text();
        assert!(text.starts_with("error: `{` is no valid pattern: "), "{text}");
        assert_eq!(CliError::Runtime(io::Error::other("no threads")).text(), "error: could not start the runtime: no threads\n");
    }
}
