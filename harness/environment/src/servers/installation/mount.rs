//! A directory that holds a Secret as a pod sees it.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use model::connect::ClientFiles;
use model::credential::SecretFile;
use os::tree;
use os::user::RunAs;

/// The link to the present content, as the kubelet names it (`pkg/volume/util/atomic_writer.go`).
const DATA: &str = "..data";

/// A mounted Secret. Its files are links into `..data`, itself a link to a directory with the present content, which a rename replaces: whoever
/// opens a file gets either the old or the new one, though two files that are opened one after the other may be of both.
///
/// The kubelet removes the old content at once, and who had followed the link by then finds nothing. Here old contents stay until the end: what
/// timelines look at is not a race that is won a thousand times and then lost.
#[derive(Debug)]
pub(super) struct Mount {
    directory: PathBuf,
    /// Counts the contents so far.
    contents: u64,
}

impl Mount {
    /// Makes the directory, with nothing in it yet.
    pub(super) fn make(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir(directory)?;
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { directory: directory.to_path_buf(), contents: 0 })
    }

    /// Its files, whatever they hold and whether they are there.
    pub(super) fn files(&self) -> ClientFiles {
        let path = |file: SecretFile| Some(self.directory.join(file.file_name()));
        ClientFiles { certificate: path(SecretFile::Certificate), key: path(SecretFile::Key), root: path(SecretFile::Ca) }
    }

    /// Brings all files to this content at once. They belong to the user that clients run as, and keys have the mode 0600: libpq takes no wider
    /// one.
    pub(super) fn swap(&mut self, content: &BTreeMap<SecretFile, String>) -> io::Result<()> {
        let new = format!("..{}", self.contents + 1);
        let directory = self.directory.join(&new);
        std::fs::create_dir(&directory)?;
        for (file, text) in content {
            let path = directory.join(file.file_name());
            write(&path, text, if *file == SecretFile::Key { 0o600 } else { 0o644 })?;
            tree::give(&path, RunAs::of_clients().as_ref())?;
        }
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        let link = self.directory.join("..data_tmp");
        symlink(&new, &link)?;
        std::fs::rename(&link, self.directory.join(DATA))?;
        self.contents += 1;
        for file in [SecretFile::Certificate, SecretFile::Key, SecretFile::Ca] {
            let seen = self.directory.join(file.file_name());
            match (content.contains_key(&file), seen.symlink_metadata().is_ok()) {
                (true, false) => symlink(Path::new(DATA).join(file.file_name()), &seen)?,
                (false, true) => std::fs::remove_file(&seen)?,
                _ => {}
            }
        }
        Ok(())
    }
}

fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(certificate: &str, key: Option<&str>) -> BTreeMap<SecretFile, String> {
        let key = key.map(|key| (SecretFile::Key, key.to_owned()));
        key.into_iter().chain([(SecretFile::Certificate, certificate.to_owned()), (SecretFile::Ca, "ca".to_owned())]).collect()
    }

    #[test]
    fn paths_stay_and_what_they_hold_is_swapped() {
        let base = tempfile::tempdir().expect("a directory");
        let mut mount = Mount::make(&base.path().join("client")).expect("made");
        let files = mount.files();
        let (certificate, key) = (files.certificate.expect("a path"), files.key.expect("a path"));
        assert!(!certificate.exists());
        mount.swap(&content("one", Some("key"))).expect("swaps");
        assert_eq!(std::fs::read_to_string(&certificate).expect("there"), "one");
        assert_eq!(std::fs::metadata(&key).expect("there").permissions().mode() & 0o777, 0o600);
        mount.swap(&content("two", None)).expect("swaps");
        assert_eq!(std::fs::read_to_string(&certificate).expect("there"), "two");
        assert!(key.symlink_metadata().is_err(), "a key that is gone from the Secret is gone");
        mount.swap(&content("three", Some("again"))).expect("swaps");
        assert_eq!(std::fs::read_to_string(&key).expect("there"), "again");
        let seen = std::fs::read_dir(base.path().join("client")).expect("reads").map(|entry| entry.expect("reads").file_name());
        let seen = seen.filter(|name| !name.to_string_lossy().starts_with(".."));
        assert_eq!(seen.count(), 3, "what `ls` shows");
    }

    #[test]
    fn a_reader_never_finds_a_file_missing_or_half_written() {
        let base = tempfile::tempdir().expect("a directory");
        let mut mount = Mount::make(&base.path().join("client")).expect("made");
        let texts = ["a".repeat(10_000), "b".repeat(20_000)];
        mount.swap(&content(&texts[0], None)).expect("swaps");
        let path = mount.files().certificate.expect("a path");
        let (expected, done) = (texts.clone(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let reader = {
            let done = std::sync::Arc::clone(&done);
            std::thread::spawn(move || {
                let mut seen = [0_u32; 2];
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let text = std::fs::read_to_string(&path).expect("always there");
                    let which = expected.iter().position(|expected| *expected == text).expect("one of the two as a whole");
                    seen[which] += 1;
                }
                seen
            })
        };
        for round in 0..500 {
            mount.swap(&content(&texts[round % 2], None)).expect("swaps");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let seen = reader.join().expect("no panic");
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }
}
