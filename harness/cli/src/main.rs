//! The command line: parses, wires everything together, prints.

mod args;
mod error;
mod exit;
mod hold;
mod home;
mod images;
mod list;
mod output;
mod own_programs;
mod reference;
mod run;
mod schema;
mod select;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use error::CliError;
use exit::Exit;

/// What the watcher does for a run that is gone: it gets the run's id.
#[cfg(feature = "container")]
fn orphaned(run: &str) {
    environment::container::engine::reap(run);
}

/// Nothing is entrusted to the watcher without containers.
#[cfg(not(feature = "container"))]
fn orphaned(_run: &str) {}

/// Parses the process's arguments and does what they say.
fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are no errors to clap, and go to standard output.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Conformant.into() };
        }
    };
    let result = match args.command {
        Command::Run(run) => run::run(&run),
        Command::List(list) => list::list(&list),
        Command::Claims(claims) => list::claims(&claims),
        Command::Doctor(doctor) => list::doctor(&doctor),
        Command::Schema { which, markdown } => schema::schema(which, markdown),
        Command::WatchRunDirectory { directory } => {
            os::rundir::watch(&directory, orphaned);
            Ok(Exit::Conformant)
        }
        Command::Agent(args) => agent::main(&args).map(|()| Exit::Conformant).map_err(CliError::from),
        Command::OwnClient(args) => return driver::served::main(&args),
        Command::LibpqClient(args) => return driver::libpq::child_main(&args),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            // A failure leaves nobody to tell.
            let _ = std::io::stderr().write_all(error.text().as_bytes());
            error.exit().into()
        }
    }
}
