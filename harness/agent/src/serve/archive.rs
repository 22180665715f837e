//! Directories as tar archives.

use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::super::frame::{self, Kind};
use super::super::protocol::{Done, Failure, Owner};
use super::answer::{blocking, refuse, reply};
use super::files;

/// Pieces between the connection and the archive that neither has taken yet, at most.
const PIECES: usize = 8;

/// The size of a piece: of several, one fits into a frame.
const PIECE: usize = 128 * 1024;

pub(super) async fn pack(mut stream: TcpStream, directory: PathBuf) -> io::Result<()> {
    let failure = |error: &io::Error| Failure::io(format_args!("pack {}", directory.display()), error);
    match std::fs::metadata(&directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return refuse(&mut stream, failure(&io::Error::from_raw_os_error(nix::libc::ENOTDIR))).await,
        Err(error) => return refuse(&mut stream, failure(&error)).await,
    }
    reply(&mut stream, Ok(Done {})).await?;
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let packed = {
        let directory = directory.clone();
        tokio::task::spawn_blocking(move || pack_to(&directory, ChunkWriter { sender, piece: Vec::with_capacity(PIECE) }))
    };
    while let Some(piece) = pieces.recv().await {
        frame::send(&mut stream, Kind::Data, &piece).await?;
    }
    match packed.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(()) => frame::send(&mut stream, Kind::DataEnd, &[]).await,
        Err(error) => frame::send(&mut stream, Kind::Failed, &serde_json::to_vec(&failure(&error))?).await,
    }
}

/// A writer whose bytes go to the connection.
struct ChunkWriter {
    sender: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        // A single write may be larger than a frame.
        let all = std::mem::take(&mut self.piece);
        for piece in all.chunks(PIECE) {
            self.sender.blocking_send(piece.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }
}

fn pack_to(directory: &Path, pieces: ChunkWriter) -> io::Result<()> {
    let mut archive = tar::Builder::new(pieces);
    archive.follow_symlinks(false);
    archive.append_dir(".", directory)?;
    append(&mut archive, directory, Path::new(""))?;
    archive.into_inner()?.flush()
}

fn append(archive: &mut tar::Builder<ChunkWriter>, directory: &Path, name: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), name.join(entry.file_name()));
        let kind = entry.file_type()?;
        let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        if kind.is_dir() {
            archive.append_dir(&name, &path).map_err(at)?;
            append(archive, &path, &name)?;
        } else if kind.is_file() || kind.is_symlink() {
            archive.append_path_with_name(&path, &name).map_err(at)?;
        }
    }
    Ok(())
}

pub(super) async fn unpack(mut stream: TcpStream, directory: PathBuf, owner: Option<Owner>) -> io::Result<()> {
    reply(&mut stream, Ok(Done {})).await?;
    let (sender, receiver) = mpsc::channel(PIECES);
    let shown = directory.display().to_string();
    let unpacked = tokio::spawn(blocking(move || {
        let unpacked = unpack_from(&directory, owner, Received { receiver, piece: Vec::new(), at: 0 });
        unpacked.map(|()| Done {}).map_err(|error| Failure::io(format_args!("unpack to {shown}"), &error))
    }));
    let mut read = BufReader::new(&mut stream);
    loop {
        match frame::receive(&mut read).await? {
            // After a failure the rest is taken all the same: else its reset would take the answer with it.
            Some((Kind::Data, bytes)) => drop(sender.send(bytes).await),
            Some((Kind::DataEnd, _)) => break,
            _ => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    drop(sender);
    let result = unpacked.await.unwrap_or_else(|error| Err(Failure::text(error.to_string())));
    reply(&mut stream, result).await
}

/// An archive that is not unpacked, though tar can read it.
#[derive(Debug, thiserror::Error)]
enum ArchiveError {
    #[error("{name} leads out of the directory", name = name.display())]
    LeadsOut { name: PathBuf },
    #[error("the archive is empty: was it cut short?")]
    Empty,
}

impl From<ArchiveError> for io::Error {
    fn from(error: ArchiveError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// A reader of what comes over the connection.
struct Received {
    receiver: mpsc::Receiver<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Received {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            self.piece = self.receiver.blocking_recv().unwrap_or_default();
            self.at = 0;
        }
        let mut rest = self.piece.get(self.at..).unwrap_or_default();
        let length = rest.read(buffer)?;
        self.at += length;
        Ok(length)
    }
}

fn unpack_from(directory: &Path, owner: Option<Owner>, received: Received) -> io::Result<()> {
    files::make_above(directory)?;
    let mut archive = tar::Archive::new(received);
    let mut directories = Vec::new();
    let mut entries = 0;
    for entry in archive.entries()? {
        let mut entry = entry?;
        entries += 1;
        let name = entry.path()?.into_owned();
        if entry.header().entry_type().is_dir() {
            // Modes of directories come last, so that a read-only one can be filled.
            directories.push((directory.join(&name), entry.header().mode()?));
            std::fs::create_dir_all(directory.join(safe(&name)?))?;
            continue;
        }
        entry.set_preserve_permissions(true);
        if !entry.unpack_in(directory)? {
            return Err(ArchiveError::LeadsOut { name }.into());
        }
        give(&directory.join(&name), owner)?;
    }
    if entries == 0 {
        return Err(ArchiveError::Empty.into());
    }
    for (path, mode) in directories.into_iter().rev() {
        give(&path, owner)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// The name of an entry, which must not lead out of the directory.
fn safe(name: &Path) -> io::Result<&Path> {
    use std::path::Component::{CurDir, Normal};
    if name.components().all(|part| matches!(part, Normal(_) | CurDir)) {
        Ok(name)
    } else {
        Err(ArchiveError::LeadsOut { name: name.to_path_buf() }.into())
    }
}

/// Gives one file to its owner; a link itself, not what it leads to. chown(2) may clear mode bits, which are set again.
fn give(path: &Path, owner: Option<Owner>) -> io::Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let before = std::fs::symlink_metadata(path)?;
    let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    nix::unistd::fchownat(nix::fcntl::AT_FDCWD, path, Some(uid), Some(gid), flags).map_err(io::Error::from)?;
    if before.is_file() && before.mode() & 0o6000 != 0 {
        std::fs::set_permissions(path, before.permissions())?;
    }
    Ok(())
}
