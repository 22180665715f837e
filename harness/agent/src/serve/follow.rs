//! A file that is sent as it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::super::line;
use super::super::protocol::{Done, Failure};
use super::answer::{refuse, reply};
use os::file_watch::FileWatch;

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

pub(super) async fn follow(mut stream: TcpStream, path: &Path, from: u64) -> io::Result<()> {
    line::keep_alive(&stream);
    let watched = FileWatch::of(path).map_err(|error| Failure { message: error.to_string(), errno: error.source.raw_os_error() });
    let opened = watched.and_then(|watch| {
        let opened = File::open(path).and_then(|mut file| file.seek(SeekFrom::Start(from)).map(|_| file));
        opened.map(|file| (watch, file)).map_err(|error| Failure::io(format_args!("open {}", path.display()), &error))
    });
    let (mut watch, mut file) = match opened {
        Ok(opened) => opened,
        Err(failure) => return refuse(&mut stream, failure).await,
    };
    reply(&mut stream, Ok(Done {})).await?;
    let mut buffer = vec![0; BUFFER];
    loop {
        // All that is there: also what was written before the watch stood, and while the last piece was sent.
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            stream.write_all(buffer.get(..length).unwrap_or_default()).await?;
        }
        tokio::select! {
            grown = watch.wait() => grown?,
            () = line::hung_up(&stream) => return Ok(()),
        }
    }
}
