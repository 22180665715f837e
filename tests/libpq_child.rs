//! The libpq child process with libraries that are of no use.

use std::path::Path;

use driver::DriverError;
use driver::exec::{ExecDriver, Program};
use os::toolchain::LibpqBuild;

async fn start_reason(library: &str) -> String {
    let directory = tempfile::tempdir().expect("a directory");
    let build = LibpqBuild { driver: "libpq-0".to_owned(), library: library.into(), origin: "distribution" };
    let program = Program::libpq(Path::new(env!("CARGO_BIN_EXE_mtls-conformance")), &build, directory.path()).expect("a home");
    match ExecDriver::start(program).await {
        Err(DriverError::Start { driver, source }) => {
            assert_eq!(driver, "libpq-0");
            source.to_string()
        }
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it started with {library}"),
    }
}

#[tokio::test]
async fn a_library_that_is_not_there_is_named() {
    let reason = start_reason("/nonexistent/libpq.so.5").await;
    assert!(reason.contains("could not load /nonexistent/libpq.so.5"), "{reason}");
    assert!(reason.contains("exit status: 1") && reason.contains("libpq-0.log"), "{reason}");
}

#[tokio::test]
async fn a_library_that_is_no_libpq_is_told_by_its_missing_function() {
    let reason = start_reason("libc.so.6").await;
    assert!(reason.contains("no `PQconnectStartParams`"), "{reason}");
}
