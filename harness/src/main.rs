//! The command `mtls-conformance`.

use std::process::ExitCode;

fn main() -> ExitCode {
    mtls_conformance::cli::main()
}
