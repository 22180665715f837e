//! Follows a log file by inotify: no polling, a read for every batch of writes.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, fallocate};
use tokio::task::JoinHandle;

use super::index::LogIndex;
use super::record::Parser;
use os::file_watch::{FileWatch, FileWatchError};

/// How much of a log stays on the file system for evidence. What is older is given back (its place in the file reads as zeros), since run
/// directories are in memory and a long run writes megabytes a second.
const KEPT_BYTES: u64 = 32 * 1024 * 1024;

/// Given back in steps of this size, a multiple of every page size.
const STEP: u64 = 4 * 1024 * 1024;

/// A task that reads a log into a [`LogIndex`] as it grows. Dropping it ends the task.
#[derive(Debug)]
pub struct Tailer {
    task: JoinHandle<()>,
}

impl Tailer {
    /// Follows `path`, which must exist, from its beginning. Needs a tokio runtime, and lives no longer than that.
    pub fn follow(path: &Path, parser: impl Parser + 'static, index: Arc<LogIndex>) -> Result<Self, FileWatchError> {
        let mut watch = FileWatch::of(path)?;
        // For writing, only to give old parts back: a log that can't be written to is followed all the same.
        let file = OpenOptions::new().read(true).write(true).open(path).or_else(|_| File::open(path));
        let file = file.map_err(|source| FileWatchError { action: "open", path: path.to_path_buf(), source })?;
        let mut reader = Reader { file, parser, index, rest: Vec::new(), read: 0, given_back: 0 };
        let task = tokio::spawn(async move {
            // What was written before the watch stood.
            reader.read_on();
            while watch.wait().await.is_ok() {
                reader.read_on();
            }
        });
        Ok(Self { task })
    }
}

impl Drop for Tailer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Reader<P> {
    file: File,
    parser: P,
    index: Arc<LogIndex>,
    /// The beginning of a line whose end isn't written yet.
    rest: Vec<u8>,
    read: u64,
    given_back: u64,
}

impl<P: Parser> Reader<P> {
    fn read_on(&mut self) {
        let before = self.rest.len();
        // A failing read of an open file on a local file system leaves what was read; the next event tries again.
        let _ = self.file.read_to_end(&mut self.rest);
        self.read += (self.rest.len() - before) as u64;
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else { return };
        let lines = self.rest[..end].split(|byte| *byte == b'\n');
        let parser = &mut self.parser;
        self.index.add(lines.filter_map(|line| parser.parse(line)));
        self.rest.drain(..=end);
        self.give_back();
    }

    fn give_back(&mut self) {
        let upto = self.read.saturating_sub(KEPT_BYTES) / STEP * STEP;
        let length = upto.saturating_sub(self.given_back);
        if length > 0 {
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            let (from, length) = (i64::try_from(self.given_back).unwrap_or(0), i64::try_from(length).unwrap_or(0));
            // Not every file system can; then the log just grows.
            let _ = fallocate(&self.file, hole, from, length);
            self.given_back = upto;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::RedisLog;

    const LIMIT: Duration = Duration::from_secs(10);

    /// The lines that are read from a log which grows by these pieces.
    fn read_in<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut written = tempfile::NamedTempFile::new().expect("a file");
        let file = File::open(written.path()).expect("opens");
        let index = Arc::new(LogIndex::default());
        let mut reader = Reader { file, parser: RedisLog::default(), index, rest: Vec::new(), read: 0, given_back: 0 };
        let mut total = 0;
        for piece in pieces {
            written.write_all(piece).expect("writes");
            reader.read_on();
            total += piece.len() as u64;
            assert_eq!(reader.read, total, "what is given back is counted from it");
        }
        reader.index.server_lines_since(0).into_iter().map(|line| line.message).collect()
    }

    proptest! {
        #[test]
        fn a_log_is_read_alike_however_it_grows(texts in vec("[a-z\u{e9}]{0,12}", 0..5), ended: bool, cuts in vec(any::<Index>(), 0..5)) {
            let lines: Vec<String> = texts.iter().map(|text| format!("1:M 24 Nov 2026 07:55:10.184 * {text}")).collect();
            let mut log = lines.join("\n").into_bytes();
            if ended {
                log.push(b'\n');
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(log.len() + 1)).chain([0, log.len()]).collect();
            cuts.sort_unstable();
            // A line counts once its end is written.
            let whole = if ended { texts.len() } else { texts.len().saturating_sub(1) };
            prop_assert_eq!(read_in(cuts.windows(2).map(|pair| &log[pair[0]..pair[1]])), &texts[..whole]);
        }
    }

    #[tokio::test]
    async fn lines_are_seen_as_they_are_written_also_in_pieces() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log");
        std::fs::write(&path, "1:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:1000\n").expect("writes");
        let index = Arc::new(LogIndex::default());
        let _tailer = Tailer::follow(&path, RedisLog::default(), Arc::clone(&index)).expect("follows");
        let first = index.lines_of(&["127.0.0.1:1000".parse().expect("an address")], &|lines| !lines.is_empty(), LIMIT).await;
        assert_eq!(first.len(), 1, "what was there before");
        let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.write_all(b"1:M 24 Nov 2026 07:55:10.185 - Accep").expect("writes");
        file.write_all(b"ted 127.0.0.1:1001\n1:M 24 Nov 2026 07:55:10.18").expect("writes");
        let second = index.lines_of(&["127.0.0.1:1001".parse().expect("an address")], &|lines| !lines.is_empty(), LIMIT).await;
        assert_eq!(second[0].message, "Accepted 127.0.0.1:1001");
    }

    #[tokio::test]
    async fn a_log_that_does_not_exist_is_an_error_with_its_place() {
        let error = Tailer::follow(Path::new("/nonexistent/log"), RedisLog::default(), Arc::default()).expect_err("nothing to follow");
        assert!(error.to_string().contains("/nonexistent/log"), "{error}");
    }

    #[tokio::test]
    async fn old_parts_of_a_long_log_are_given_back() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("log");
        let mut file = File::create(&path).expect("makes");
        let line = format!("1:M 24 Nov 2026 07:55:10.184 * {}\n", "x".repeat(1024 * 1024));
        for _ in 0..48 {
            file.write_all(line.as_bytes()).expect("writes");
        }
        file.write_all(b"1:M 24 Nov 2026 07:55:10.184 - Accepted 127.0.0.1:1000\n").expect("writes");
        let index = Arc::new(LogIndex::default());
        let _tailer = Tailer::follow(&path, RedisLog::default(), Arc::clone(&index)).expect("follows");
        let last = index.lines_of(&["127.0.0.1:1000".parse().expect("an address")], &|lines| !lines.is_empty(), LIMIT).await;
        assert_eq!(last.len(), 1);
        os::poll::until("the log to shrink", LIMIT, Duration::from_millis(1), || async {
            let used = std::fs::metadata(&path).map_err(|error| error.to_string())?.blocks() * 512;
            if used <= KEPT_BYTES + STEP { Ok(()) } else { Err(format!("{used} bytes")) }
        })
        .await
        .expect("it shrinks");
        // Of a little more than 48 MiB the last 32 stay, and of the rest what is whole steps of 4 MiB.
        let zero_at = |place: u64| {
            let mut byte = [1];
            std::os::unix::fs::FileExt::read_exact_at(&File::open(&path)?, &mut byte, place).map(|()| byte == [0])
        };
        os::poll::until("16 MiB to be given back", LIMIT, Duration::from_millis(1), || async {
            if zero_at(16 * 1024 * 1024 - 1).expect("readable") { Ok(()) } else { Err("not yet") }
        })
        .await
        .expect("the first 16 MiB are given back");
        assert!(!zero_at(16 * 1024 * 1024).expect("readable"), "what may be looked at stays");
    }

    #[tokio::test]
    async fn a_dropped_tailer_follows_no_longer() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let index = Arc::new(LogIndex::default());
        let tailer = Tailer::follow(file.path(), RedisLog::default(), Arc::clone(&index)).expect("follows");
        assert_eq!(Arc::strong_count(&index), 2);
        drop(tailer);
        os::poll::until("the task to end", LIMIT, Duration::from_millis(1), || async {
            if Arc::strong_count(&index) == 1 { Ok(()) } else { Err("it holds the index") }
        })
        .await
        .expect("it ends");
    }
}
