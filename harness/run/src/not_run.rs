//! Why a case says nothing about the deployment: it was skipped, or something failed that is no behaviour of a server.

use std::fmt;
use std::sync::Arc;

use tokio::task::JoinError;

use agent::AgentError;
use driver::DriverError;
use environment::{CommandError, EnvironmentError, MachineError};
use model::causes::with_causes;
use model::change::Target;
use model::network::NoNetwork;
use model::outcome::{ErrorKind, Mismatch, Outcome, SkipReason};
use model::refusal::Refusal;
use model::server::ServerKey;
use os::dial;
use os::evidence::EvidenceError;
use wire::RelayError;

use super::credentials::CredentialError;

/// A case that could not be carried out.
#[derive(Debug)]
pub(crate) enum NotRun {
    /// Something is missing here, which is no failure.
    Skip(SkipReason),
    /// The harness, a client or the environment failed. Boxed: it is far larger than what is returned where nothing fails.
    Error(Box<CaseError>),
}

/// What ended a case before it could say anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CaseError {
    /// A server, a gateway or a container failed.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The same, and its log could not be kept.
    #[error("{source}\nand this log will be gone: {unkept}; `--evidence DIR` names another directory")]
    Unkept { source: Box<EnvironmentError>, unkept: EvidenceError },
    /// A change of a timeline could not be made.
    #[error("phase `{phase}`: {change}: {source}")]
    Change { phase: String, change: String, source: EnvironmentError },
    /// A client program did not start, broke off or gave no answer.
    #[error(transparent)]
    Driver(DriverError),
    /// A client's file could not be made, or a text names none.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A client's files did not reach the container that it runs in.
    #[error(transparent)]
    Files(AgentError),
    /// The server has a unix socket that clients can't reach.
    #[error(transparent)]
    UnixSocket(MachineError),
    /// No relay could be opened beside a client of this machine.
    #[error(transparent)]
    OpenRelay(#[from] RelayError),
    /// A relay beside a client in a container could not be opened, or was lost with what it saw.
    #[error(transparent)]
    RemoteRelay(#[from] AgentError),
    /// A relay failed while it carried a connection; the text is that of [`WireTrace::error`](model::wire::WireTrace::error).
    #[error("the relay failed: {0}")]
    Relay(String),
    /// A documented command did not run to its end.
    #[error(transparent)]
    Command(CommandError),
    /// A case goes through a gateway where there is none.
    #[error("no gateway stands in front of the server")]
    NoGateway,
    /// An installation lacks the server that its own timeline is about.
    #[error("the installation of {0} has no such server")]
    NoServer(ServerKey),
    /// An installation lacks the replica that a client of its timeline watches.
    #[error("the installation has no replica")]
    NoReplica,
    /// A phase expects something of the log of a server that the installation lacks.
    #[error("phase `{phase}`: there is no {target} whose log could be read")]
    NoLog { phase: String, target: Target },
    /// Wire or log contradict what the client of a held session saw at its beginning.
    #[error("a kept session was not what its client took it for: {0}")]
    KeptSession(Disagreement),
    /// The refused case differs from one that should connect, and that one did not.
    #[error("its positive control failed, so the refusal proves nothing: {0}")]
    Control(Arc<ControlError>),
    /// A task of the harness panicked: a defect of ours.
    #[error("the harness itself failed: {0}")]
    Panic(#[from] JoinError),
    /// The schedule has a case that nothing carries out.
    #[error("the case was not carried out")]
    NotCarriedOut,
}

/// Why a positive control shows nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// It could not be carried out.
    #[error("{0}")]
    Failed(Box<CaseError>),
    /// Something that it needs is missing here.
    #[error("{0}")]
    Skipped(SkipReason),
    /// The server or the client refused it like the case itself; `logged` is what the server's log tells of it, a line each.
    #[error("it was refused too ({refusal}): {text}{logged}")]
    Refused { refusal: Refusal, text: String, logged: String },
    /// Its witnesses contradict each other.
    #[error("{0}")]
    Disagrees(Disagreement),
}

/// Two witnesses that contradict each other about one connection.
#[derive(Debug)]
pub(crate) struct Disagreement(pub(crate) Mismatch);

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { witness, expected, observed, .. } = &self.0;
        write!(f, "{witness:?} disagrees: expected {expected}, saw {observed}")
    }
}

impl CaseError {
    /// What a report groups it by.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Environment(error) => error.kind(),
            Self::Unkept { source, .. } => source.kind(),
            // Whatever kept a change from being made, its phase has no beginning.
            Self::Change { source, .. } => match source.kind() {
                ErrorKind::Harness => ErrorKind::Configure,
                kind => kind,
            },
            Self::Driver(error) => error.kind(),
            Self::OpenRelay(RelayError::Listen { source, .. }) if dial::is_own_failure(source) => ErrorKind::Limit,
            Self::RemoteRelay(error) | Self::Files(error) => of_agent(error),
            Self::UnixSocket(error) => error.kind(),
            Self::Command(error) => error.kind(),
            Self::Control(error) => match error.as_ref() {
                ControlError::Failed(error) => error.kind(),
                ControlError::Skipped(_) | ControlError::Refused { .. } | ControlError::Disagrees(_) => ErrorKind::Harness,
            },
            Self::Credential(_)
            | Self::OpenRelay(_)
            | Self::Relay(_)
            | Self::NoGateway
            | Self::NoServer(_)
            | Self::NoReplica
            | Self::NoLog { .. }
            | Self::KeptSession(_)
            | Self::Panic(_)
            | Self::NotCarriedOut => ErrorKind::Harness,
        }
    }
}

fn of_agent(error: &AgentError) -> ErrorKind {
    match error {
        AgentError::Connect { .. } | AgentError::Lost { .. } => ErrorKind::Lost,
        AgentError::Slow { .. } => ErrorKind::Limit,
        AgentError::Refused { .. } | AgentError::Local { .. } => ErrorKind::Harness,
    }
}

impl From<CaseError> for Outcome {
    fn from(error: CaseError) -> Self {
        if let CaseError::Environment(environment) = &error
            && let Some(reason) = environment.skip()
        {
            return Self::Skipped(reason);
        }
        Self::Errored { kind: error.kind(), text: with_causes(&error) }
    }
}

impl From<EnvironmentError> for NotRun {
    fn from(error: EnvironmentError) -> Self {
        CaseError::from(error).into()
    }
}

impl From<NotRun> for Outcome {
    fn from(not_run: NotRun) -> Self {
        match not_run {
            NotRun::Skip(reason) => Self::Skipped(reason),
            NotRun::Error(error) => (*error).into(),
        }
    }
}

impl From<CaseError> for NotRun {
    fn from(error: CaseError) -> Self {
        Self::Error(Box::new(error))
    }
}

impl From<CredentialError> for NotRun {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::NotGiven { .. } => Self::Skip(SkipReason::MachineLacks(error.to_string())),
            other => CaseError::from(other).into(),
        }
    }
}

impl From<NotRun> for ControlError {
    fn from(not_run: NotRun) -> Self {
        match not_run {
            NotRun::Skip(reason) => Self::Skipped(reason),
            NotRun::Error(error) => Self::Failed(error),
        }
    }
}

impl From<DriverError> for NotRun {
    fn from(error: DriverError) -> Self {
        match error {
            DriverError::Unable { .. } => Self::Skip(SkipReason::DriverUnable(error.to_string())),
            other => CaseError::Driver(other).into(),
        }
    }
}

impl From<CommandError> for NotRun {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Missing(reason) => Self::Skip(reason),
            error => CaseError::Command(error).into(),
        }
    }
}

impl From<NoNetwork> for NotRun {
    fn from(error: NoNetwork) -> Self {
        Self::Skip(error.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use os::command::RunError;

    use super::*;

    fn listen(source: io::Error) -> CaseError {
        CaseError::OpenRelay(RelayError::Listen { address: IpAddr::V4(Ipv4Addr::LOCALHOST), source })
    }

    fn spawn(kind: io::ErrorKind) -> RunError {
        RunError::Spawn { program: "/usr/bin/openssl".into(), source: kind.into() }
    }

    fn outcome(error: CaseError) -> (ErrorKind, String) {
        match error.into() {
            Outcome::Errored { kind, text } => (kind, text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_errors_cause_is_told_once() {
        let (_, text) = outcome(listen(io::Error::from_raw_os_error(nix::libc::EMFILE)));
        assert_eq!(
            text,
            "could not listen for a relay's client on 127.0.0.1: Too many open files (os error 24); does this machine have that address, and \
             ports left?"
        );
        let source = EnvironmentError::NoChange("sync client".to_owned());
        let (_, text) = outcome(CaseError::Change { phase: "one".to_owned(), change: "sync client".to_owned(), source });
        assert_eq!(text, "phase `one`: sync client: `sync client` is no change of what runs");
        let (_, text) = outcome(CaseError::Command(spawn(io::ErrorKind::NotFound).into()));
        assert_eq!(text, "could not run /usr/bin/openssl: entity not found; is it installed, and may this user execute it?");
        let source = AgentError::Local { action: "listen on", path: "/run/x".into(), source: io::ErrorKind::PermissionDenied.into() };
        let (_, text) = outcome(CaseError::UnixSocket(MachineError::UnixForward { source: Arc::new(source) }));
        assert_eq!(text, "no way to the server's unix socket: could not listen on /run/x: permission denied");
    }

    #[test]
    fn a_file_that_can_not_be_given_away_skips_its_case() {
        let error = CredentialError::NotGiven { name: "site".to_owned(), owner: "root", harness: "user 1000".to_owned() };
        let Outcome::Skipped(SkipReason::MachineLacks(reason)) = NotRun::from(error).into() else { panic!("it is skipped") };
        assert!(
            reason.starts_with("the key of `site` is to belong to root, and") && reason.ends_with(": user 1000 runs this one"),
            "{reason}"
        );
    }

    #[test]
    fn the_kind_is_that_of_the_cause() {
        let endless = RunError::TimedOut { command: "openssl s_client".to_owned(), limit: Duration::from_secs(1) };
        let lost = |source| AgentError::Lost { address: ([127, 0, 0, 1], 1).into(), doing: "open a relay".to_owned(), source };
        let hang = DriverError::Hang { driver: "libpq-18".to_owned(), limit: Duration::from_secs(1) };
        let broken = || DriverError::broken("libpq-18", driver::BrokenError::Ending);
        let control = |error| CaseError::Control(Arc::new(error));
        let refused = ControlError::Skipped(SkipReason::FailFast);
        for (error, kind) in [
            (listen(io::Error::from_raw_os_error(nix::libc::EMFILE)), ErrorKind::Limit),
            (listen(io::Error::from_raw_os_error(nix::libc::EACCES)), ErrorKind::Harness),
            (CaseError::RemoteRelay(lost(io::ErrorKind::UnexpectedEof.into())), ErrorKind::Lost),
            (CaseError::Files(lost(io::ErrorKind::ConnectionReset.into())), ErrorKind::Lost),
            (
                CaseError::UnixSocket(MachineError::UnixForward { source: Arc::new(lost(io::ErrorKind::BrokenPipe.into())) }),
                ErrorKind::Lost,
            ),
            (CaseError::Command(spawn(io::ErrorKind::NotFound).into()), ErrorKind::Harness),
            (CaseError::Command(endless.into()), ErrorKind::Limit),
            (CaseError::Driver(hang), ErrorKind::Limit),
            (CaseError::Driver(broken()), ErrorKind::Client),
            (control(ControlError::Failed(Box::new(CaseError::Driver(broken())))), ErrorKind::Client),
            (control(refused), ErrorKind::Harness),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
        }
    }
}
