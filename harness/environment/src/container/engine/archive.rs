//! Files on their way into a container: the engine takes a tar archive.

use std::io;

use super::spec::FileSpec;

/// The files as a tar archive to be unpacked at `/`, which makes missing directories. They belong to root there.
///
/// # Errors
/// What `tar` says of a path that an archive can't hold.
pub(super) fn archive<'a>(files: impl IntoIterator<Item = &'a FileSpec>) -> io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for file in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(file.bytes.len()).map_err(io::Error::other)?);
        header.set_mode(file.mode);
        // Names in an archive are relative.
        builder.append_data(&mut header, file.path.trim_start_matches('/'), file.bytes.as_slice())?;
    }
    builder.into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_holds_every_file_with_its_mode_and_no_absolute_path() {
        let long = format!("/etc/{}/config", "directory/".repeat(20));
        let files = [
            FileSpec { path: "/etc/mtls-conformance/token".to_owned(), bytes: b"secret".to_vec(), mode: 0o600 },
            FileSpec { path: long.clone(), bytes: Vec::new(), mode: 0o755 },
        ];
        let bytes = archive(&files).expect("packs");
        let mut archive = tar::Archive::new(bytes.as_slice());
        let found: Vec<(String, Vec<u8>, u32)> = archive
            .entries()
            .expect("an archive")
            .map(|entry| {
                let mut entry = entry.expect("an entry");
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).expect("reads");
                (entry.path().expect("a path").display().to_string(), bytes, entry.header().mode().expect("a mode"))
            })
            .collect();
        let expected = [("etc/mtls-conformance/token", b"secret".to_vec(), 0o600), (&long[1..], Vec::new(), 0o755)];
        assert_eq!(found, expected.map(|(path, bytes, mode)| (path.to_owned(), bytes, mode)));
    }
}
