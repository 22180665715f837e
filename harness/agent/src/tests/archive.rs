//! Directories as archives.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::libc::{ENOENT, ENOTDIR};
use nix::unistd::geteuid;

use super::served;
use crate::{AgentError, Owner};

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("chmod");
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").mode() & 0o7777
}

#[tokio::test]
async fn a_directory_keeps_modes_links_and_contents_and_gets_its_owner() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let from = base.path().join("data");
    std::fs::create_dir_all(from.join("base/1")).expect("makes");
    std::fs::create_dir_all(from.join("pg_wal")).expect("makes");
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
    std::fs::write(from.join("base/1/1259"), &large).expect("writes");
    std::fs::write(from.join("key"), "secret").expect("writes");
    std::fs::write(from.join("empty"), "").expect("writes");
    let long = from.join("x".repeat(120)).join("y".repeat(120));
    std::fs::create_dir_all(&long).expect("makes");
    std::fs::write(long.join("file"), "deep").expect("writes");
    std::os::unix::fs::symlink("../key", from.join("pg_wal/link")).expect("links");
    let _socket = std::os::unix::net::UnixListener::bind(from.join(".s.PGSQL.5432")).expect("listens");
    set_mode(&from.join("key"), 0o600);
    set_mode(&from.join("base/1"), 0o500);
    set_mode(&from, 0o700);
    let tar = base.path().join("data.tar");
    served.agent.pack(&from, &tar).await.expect("packs");
    let to = base.path().join("other/place");
    let owner = geteuid().is_root().then_some(Owner { uid: 26, gid: 27 });
    served.agent.unpack(&tar, &to, owner).await.expect("unpacks");
    assert!(std::fs::read(to.join("base/1/1259")).expect("reads") == large);
    assert_eq!((mode(&to), mode(&to.join("key")), mode(&to.join("base/1")), mode(&to.join("pg_wal"))), (0o700, 0o600, 0o500, 0o755));
    assert_eq!(std::fs::read_link(to.join("pg_wal/link")).expect("a link"), Path::new("../key"));
    assert_eq!(std::fs::read(to.join("pg_wal/link")).expect("it leads to the copy"), b"secret");
    assert_eq!(std::fs::read(to.join(long.strip_prefix(&from).expect("below")).join("file")).expect("reads"), b"deep");
    assert!(!to.join(".s.PGSQL.5432").exists());
    if let Some(owner) = owner {
        for name in ["", "key", "base", "base/1", "base/1/1259", "pg_wal/link"] {
            let found = std::fs::symlink_metadata(to.join(name)).expect("there");
            assert_eq!((found.uid(), found.gid()), (owner.uid, owner.gid), "{name}");
        }
        assert_eq!(std::fs::metadata(to.parent().expect("above")).expect("there").uid(), 0);
    }
    // tempfile's removal must get in again.
    set_mode(&to.join("base/1"), 0o700);
    set_mode(&from.join("base/1"), 0o700);
}

#[tokio::test]
async fn what_is_no_directory_and_what_is_no_archive_is_named() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let tar = base.path().join("data.tar");
    let error = served.agent.pack("/nonexistent/data".as_ref(), &tar).await.expect_err("nothing to pack");
    assert_eq!(error.errno(), Some(ENOENT), "{error}");
    let error = served.agent.pack("/etc/passwd".as_ref(), &tar).await.expect_err("no directory");
    assert_eq!(error.errno(), Some(ENOTDIR), "{error}");
    let error = served.agent.unpack("/nonexistent.tar".as_ref(), &base.path().join("to"), None).await.expect_err("no archive");
    assert!(matches!(&error, AgentError::Local { .. }), "{error}");
    for (contents, name) in [(vec![b'x'; 2_000_000], "garbage"), (Vec::new(), "empty")] {
        std::fs::write(&tar, contents).expect("writes");
        let error = served.agent.unpack(&tar, &base.path().join("to"), None).await.expect_err("no archive");
        assert!(error.to_string().contains("could not unpack"), "{name}: {error}");
    }
}

#[tokio::test]
async fn an_archive_cannot_write_outside_its_directory() {
    let served = served().await;
    let base = tempfile::tempdir().expect("a directory");
    let tar = base.path().join("bad.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&tar).expect("makes"));
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.as_old_mut().name[..7].copy_from_slice(b"../evil");
    header.set_cksum();
    archive.append(&header, &b"x"[..]).expect("appends");
    archive.finish().expect("writes");
    let error = served.agent.unpack(&tar, &base.path().join("to"), None).await.expect_err("it leads out");
    assert!(error.to_string().contains("leads out"), "{error}");
    assert!(!base.path().join("evil").exists());
}
