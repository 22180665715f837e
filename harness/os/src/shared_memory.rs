//! The System V shared memory that a killed PostgreSQL leaves behind.
//!
//! It holds a small segment as the interlock of its data directory, and frees it at its own end, or at its next start after a crash
//! (`PGSharedMemoryCreate` in PostgreSQL's src/backend/port/sysv_shmem.c). One that was killed and is not started again leaves it to us.

use std::path::{Path, PathBuf};

/// Frees the segments of PostgreSQL servers that have their data directories below `directory` and were killed. Those of servers that run
/// are left alone.
pub fn release_below(directory: &Path) {
    let mut locks = Vec::new();
    find_locks(directory, &mut locks);
    let Ok(table) = std::fs::read_to_string("/proc/sysvipc/shm") else { return };
    for segment in locks.iter().filter_map(|lock| Segment::of_lock(&std::fs::read_to_string(lock).ok()?)) {
        if segment.is_left_behind(&table) {
            remove(segment.id);
        }
    }
}

/// Lock files of data directories. There is nothing to look for in these.
fn find_locks(directory: &Path, locks: &mut Vec<PathBuf>) {
    let lock = directory.join("postmaster.pid");
    if lock.is_file() {
        locks.push(lock);
    } else if !directory.join("PG_VERSION").exists() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                find_locks(&entry.path(), locks);
            }
        }
    }
}

/// A segment, and the server that made it.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    id: i32,
    creator: i32,
}

impl Segment {
    /// From a server's postmaster.pid, which is gone after an end in order: its id on the first line, the segment's key and id on the
    /// seventh (src/include/utils/pidfile.h).
    fn of_lock(lock: &str) -> Option<Self> {
        let creator = lock.lines().next()?.trim().parse().ok()?;
        let id = lock.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()?;
        Some(Self { id, creator })
    }

    /// Whether it is there, of that server, and nobody uses it: proc(5), columns `shmid`, `cpid` and `nattch`.
    fn is_left_behind(&self, table: &str) -> bool {
        table.lines().skip(1).any(|line| {
            let fields: Vec<i64> = line.split_whitespace().map_while(|field| field.parse().ok()).collect();
            let field = |index: usize| fields.get(index).copied();
            (field(1), field(4), field(6)) == (Some(self.id.into()), Some(self.creator.into()), Some(0))
        })
    }
}

#[expect(unsafe_code, reason = "nix knows no System V shared memory")]
fn remove(id: i32) {
    // SAFETY: IPC_RMID reads and writes no memory of ours.
    // It fails where the segment is gone meanwhile, which is as good.
    let _ = unsafe { nix::libc::shmctl(id, nix::libc::IPC_RMID, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The postmaster.pid that a PostgreSQL 17 left when it was killed.
    const LOCK: &str = "29482\n/dev/shm/mtls-conformance-x/i1/postgres/data\n1795528000\n10000\n/dev/shm/mtls-conformance-x/i1/postgres/s\n127.0.0.1\n 16909572        33\nready   \n";

    const HEAD: &str = "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap\n";

    fn table(cpid: u32, attached: u32) -> String {
        format!(
            "{HEAD}  16909572         33   600                    56 {cpid} 29530      {attached}   100   101   100   101 1795528000 1795528001 1795528000                  4096                     0\n"
        )
    }

    #[test]
    fn a_segment_is_left_behind_where_its_server_is_gone_and_nobody_uses_it() {
        let segment = Segment::of_lock(LOCK).expect("it tells");
        assert_eq!(segment, Segment { id: 33, creator: 29482 });
        assert!(segment.is_left_behind(&table(29482, 0)));
        assert!(!segment.is_left_behind(&table(29482, 3)), "it is used");
        assert!(!segment.is_left_behind(&table(4711, 0)), "it is another's");
        assert!(!segment.is_left_behind(HEAD));
        assert_eq!(Segment::of_lock("29482\n/data\n"), None, "a server that has none yet");
    }

    #[test]
    fn lock_files_are_found_in_data_directories_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = |name: &str| directory.path().join(name).join("postgres/data");
        for name in ["killed", "ended"] {
            std::fs::create_dir_all(data(name).join("base")).expect("makes");
            std::fs::write(data(name).join("PG_VERSION"), "17\n").expect("writes");
        }
        std::fs::write(data("killed").join("postmaster.pid"), LOCK).expect("writes");
        std::fs::write(data("ended").join("base/postmaster.pid"), LOCK).expect("writes");
        let mut locks = Vec::new();
        find_locks(directory.path(), &mut locks);
        assert_eq!(locks, [data("killed").join("postmaster.pid")]);
    }
}
