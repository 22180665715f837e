//! What ends the program with an error.

use super::exit::Exit;
use model::causes::with_causes;
use session::SessionError;

/// Something that ends the program before or beside a run: its message and its exit code.
#[derive(Debug)]
pub(crate) struct CliError {
    /// What was tried, what was found, what to do next; may be several lines; none where nobody is to be told.
    pub(crate) message: String,
    /// How the program ends.
    pub(crate) exit: Exit,
}

impl CliError {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }

    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Environment }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            // Whoever read the output has seen enough, as `head` has: that is no error.
            return Self { message: String::new(), exit: Exit::Conformant };
        }
        Self::environment(format!("could not write: {error}"))
    }
}

impl From<Vec<load::LoadError>> for CliError {
    fn from(errors: Vec<load::LoadError>) -> Self {
        Self::usage(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }
}

impl From<SessionError> for CliError {
    fn from(error: SessionError) -> Self {
        Self::environment(with_causes(&error))
    }
}
