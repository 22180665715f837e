//! Files and directories.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::libc::{EISDIR, ENOENT};
use nix::unistd::geteuid;

use super::served;
use crate::{DirectorySpec, FileSpec, Owner};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").mode() & 0o7777
}

fn file(path: PathBuf, contents: &[u8], mode: u32) -> FileSpec {
    FileSpec { path, contents: contents.to_vec(), mode, owner: None }
}

#[tokio::test]
async fn directories_get_their_mode_and_those_above_them_can_be_searched() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let at = base.path().join("controller/inner/certificates");
    let owner = geteuid().is_root().then_some(Owner { uid: 26, gid: 27 });
    let spec = |mode| DirectorySpec { path: at.clone(), mode, owner };
    served.agent.make_directories(&[spec(0o700)]).await.expect("makes");
    assert_eq!((mode(&at), mode(&base.path().join("controller"))), (0o700, 0o755));
    if let Some(owner) = owner {
        let found = std::fs::metadata(&at).expect("there");
        assert_eq!((found.uid(), found.gid()), (owner.uid, owner.gid));
    }
    served.agent.make_directories(&[spec(0o750)]).await.expect("one that is there is no error");
    assert_eq!(mode(&at), 0o750);
    std::fs::write(base.path().join("file"), "").expect("writes");
    let blocked = DirectorySpec { path: base.path().join("file/inner"), mode: 0o700, owner: None };
    let error = served.agent.make_directories(&[blocked]).await.expect_err("a file is in the way");
    assert!(error.to_string().contains("file/inner") && error.errno().is_some(), "{error}");
}

#[tokio::test]
async fn files_are_replaced_whole_with_mode_and_owner() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let key = base.path().join("tls.key");
    std::fs::write(&key, "old").expect("writes");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o000)).expect("chmod");
    let mut old = std::fs::File::open(&key);
    let bytes: Vec<u8> = (0..=255).collect();
    let owner = geteuid().is_root().then_some(Owner { uid: 26, gid: 26 });
    let spec = FileSpec { owner, ..file(key.clone(), &bytes, 0o400) };
    assert!(!format!("{spec:?}").contains("0, 1"), "contents are not shown");
    served.agent.write(&[spec]).await.expect("writes");
    assert_eq!(std::fs::read(&key).expect("reads"), bytes);
    assert_eq!(mode(&key), 0o400);
    if geteuid().is_root() {
        assert_eq!(std::fs::metadata(&key).expect("there").uid(), 26);
    }
    if let Ok(old) = &mut old {
        let mut text = String::new();
        std::io::Read::read_to_string(old, &mut text).expect("reads");
        assert_eq!(text, "old", "who has the old one open has all of it");
    }
    let names: Vec<_> = std::fs::read_dir(base.path()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names, ["tls.key"], "nothing else is left");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named_with_the_systems_error() {
    let served = served().await;
    let error = served.agent.write(&[file("/nonexistent/tls.key".into(), b"secret", 0o600)]).await.expect_err("no such directory");
    assert!(error.to_string().contains("/nonexistent/tls.key"), "{error}");
    assert_eq!(error.errno(), Some(ENOENT));
    let base = tempfile::tempdir().expect("a directory");
    let error = served.agent.write(&[file(base.path().to_path_buf(), b"x", 0o600)]).await.expect_err("a directory");
    assert_eq!(error.errno(), Some(EISDIR), "{error}");
}

#[tokio::test]
async fn many_large_files_go_over_in_pieces() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let files: Vec<FileSpec> = (0..5_u8).map(|n| file(base.path().join(n.to_string()), &vec![n; 3_000_000], 0o644)).collect();
    served.agent.write(&files).await.expect("writes");
    for file in &files {
        assert!(std::fs::read(&file.path).expect("reads") == file.contents, "{}", file.path.display());
    }
    let huge = file(base.path().join("huge"), &vec![0; 30_000_000], 0o644);
    let error = served.agent.write(&[huge]).await.expect_err("more than a message may hold");
    assert!(error.to_string().contains("of at most"), "{error}");
}

#[tokio::test]
async fn files_trees_and_links_are_removed_and_what_is_missing_is_no_error() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let at = |name: &str| base.path().join(name);
    std::fs::create_dir_all(at("tree/inner")).expect("makes");
    std::fs::create_dir_all(at("kept")).expect("makes");
    for name in ["tree/inner/file", "file", "kept/file"] {
        std::fs::write(at(name), "x").expect("writes");
    }
    std::os::unix::fs::symlink(at("kept"), at("link")).expect("links");
    served.agent.remove(&[at("tree"), at("file"), at("link"), at("missing"), at("missing/too")]).await.expect("removes");
    let left: Vec<_> = std::fs::read_dir(base.path()).expect("lists").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["kept"]);
    assert!(at("kept/file").exists(), "what a link leads to stays");
}

#[tokio::test]
async fn the_length_of_a_file_is_told_and_a_missing_one_is_an_error() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    std::fs::write(base.path().join("log"), "three lines").expect("writes");
    assert_eq!(served.agent.length(&base.path().join("log")).await.expect("told"), 11);
    let error = served.agent.length(&base.path().join("nothing")).await.expect_err("is not there");
    assert!(error.to_string().contains("nothing"), "{error}");
    assert_eq!(error.errno(), Some(ENOENT));
}
