//! The command `mtls-conformance`.

fn main() {}
