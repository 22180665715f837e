//! Secrets of a run.

use std::io::Read as _;

/// 24 random bytes in hex.
pub(crate) fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; 24];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
