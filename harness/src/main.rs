//! The command `mtls-conformance`.

use std::process::ExitCode;

use clap::Parser;
use mtls_conformance::driver::libpq;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// The child process behind the libpq drivers.
    #[command(name = libpq::COMMAND, hide = true)]
    LibpqClient(libpq::ChildArgs),
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::LibpqClient(args) => libpq::child_main(&args),
    }
}
